/// Drills of a policy: the name of the case, the spec, and a part of the message.
pub const DRILLS: &[(&str, &str, &str)] = &[
    (
        "with drills whose window is in days",
        "{drills: {schedule: '0 4 * * 1', within: 1d}}",
        "spec.drills.within in body should match",
    ),
    (
        "with drills whose window has too many letters",
        "{drills: {schedule: '0 4 * * 1', within: 10000000000000000000ms}}",
        "spec.drills.within: Too long: may not be more than 20",
    ),
    (
        "with drills whose longest time is in days",
        "{drills: {longest: 1d}}",
        "spec.drills.longest in body should match",
    ),
    (
        "with drills whose longest time has too many letters",
        "{drills: {longest: 10000000000000000000ms}}",
        "spec.drills.longest: Too long: may not be more than 20",
    ),
    ("with drills whose stay is in days", "{drills: {stay: 1d}}", "spec.drills.stay in body should match"),
    (
        "with drills whose stay has too many letters",
        "{drills: {stay: 10000000000000000000ms}}",
        "spec.drills.stay: Too long: may not be more than 20",
    ),
    (
        "with a window of drills below 1m",
        "{drills: {schedule: '0 4 * * 1', longest: 10s, stay: 1s, within: 59s}}",
        "spec.drills.within must be between 1m and 168h",
    ),
    (
        "with a window of drills above 168h",
        "{drills: {schedule: '0 4 * * 1', within: 168h1s}}",
        "spec.drills.within must be between 1m and 168h",
    ),
    (
        "with drills of less than 1s",
        "{drills: {stay: 100ms, longest: 999ms}}",
        "spec.drills.longest must be between 1s and 1h",
    ),
    ("with drills of more than 1h", "{drills: {longest: 1h1s}}", "spec.drills.longest must be between 1s and 1h"),
    (
        "with a drill that ends before mail returns",
        "{drills: {stay: 10m}}",
        "spec.drills.stay (default 1m) must be shorter than spec.drills.longest (default 10m)",
    ),
    (
        "with a drill that is longer than its window",
        "{drills: {schedule: '0 4 * * 1', within: 5m}}",
        "spec.drills.longest (default 10m) must not exceed spec.drills.within (default 1h): a drill ends within its window",
    ),
    (
        "with a time zone of no schedule of drills",
        "{drills: {timeZone: UTC}}",
        "spec.drills.timeZone and spec.drills.within belong to spec.drills.schedule: add it, or leave them out",
    ),
    (
        "with a window of no schedule of drills",
        "{drills: {within: 1h}}",
        "spec.drills.timeZone and spec.drills.within belong to spec.drills.schedule: add it, or leave them out",
    ),
    (
        "with drills of an unknown mode",
        "{drills: {mode: Pretended}}",
        "spec.drills.mode: Unsupported value: \"Pretended\"",
    ),
    (
        "with a schedule of drills in words",
        "{drills: {schedule: 'every monday'}}",
        "spec.drills.schedule in body should match",
    ),
    (
        "with a schedule of drills of four letters",
        "{drills: {schedule: '* * '}}",
        "spec.drills.schedule in body should be at least 9 chars long",
    ),
    (
        "with a schedule of drills that is too long",
        "{drills: {schedule: '@129 4 * * 1'}}",
        "spec.drills.schedule: Too long: may not be more than 128",
    ),
    (
        "with drills in an empty time zone",
        "{drills: {schedule: '0 4 * * 1', timeZone: ''}}",
        "spec.drills.timeZone in body should be at least 1 chars long",
    ),
    (
        "with drills in a time zone that is too long",
        "{drills: {schedule: '0 4 * * 1', timeZone: @65}}",
        "spec.drills.timeZone: Too long: may not be more than 64",
    ),
    (
        "with a space in the time zone of drills",
        "{drills: {schedule: '0 4 * * 1', timeZone: 'Europe/New York'}}",
        "spec.drills.timeZone in body should match",
    ),
    (
        "with a budget of drills without a number",
        "{drills: {budget: {per: 24h}}}",
        "spec.drills.budget.drills: Required value",
    ),
    (
        "with a budget of drills without a time",
        "{drills: {budget: {drills: 3}}}",
        "spec.drills.budget.per: Required value",
    ),
    (
        "with a budget of no drill",
        "{drills: {budget: {drills: 0, per: 24h}}}",
        "spec.drills.budget.drills in body should be greater than or equal to 1",
    ),
    (
        "with a budget of six drills",
        "{drills: {budget: {drills: 6, per: 24h}}}",
        "spec.drills.budget.drills in body should be less than or equal to 5",
    ),
    (
        "with a budget of drills in days",
        "{drills: {budget: {drills: 3, per: 1d}}}",
        "spec.drills.budget.per in body should match",
    ),
    (
        "with a budget of drills of too many letters",
        "{drills: {budget: {drills: 3, per: 10000000000000000000ms}}}",
        "spec.drills.budget.per: Too long: may not be more than 20",
    ),
    (
        "with a budget of drills of less than 1s",
        "{drills: {budget: {drills: 3, per: 999ms}}}",
        "spec.drills.budget.per must be between 1s and 2160h (90 days)",
    ),
    (
        "with a budget of drills of more than 90 days",
        "{drills: {budget: {drills: 3, per: 2160h1s}}}",
        "spec.drills.budget.per must be between 1s and 2160h (90 days)",
    ),
];
