/// (what, spec, a part of the message).
pub const POLICIES: &[(&str, &str, &str)] = &[
    ("with an unknown field", "{failback: {mode: Manual, afer: 10m}}", "unknown field \"spec.failback.afer\""),
    (
        "with 0 failures",
        "{failure: {consecutive: 0}}",
        "spec.failure.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with 1001 failures",
        "{failure: {consecutive: 1001}}",
        "spec.failure.consecutive in body should be less than or equal to 1000",
    ),
    (
        "with 0 successes",
        "{recovery: {consecutive: 0}}",
        "spec.recovery.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with 1001 successes",
        "{recovery: {consecutive: 1001}}",
        "spec.recovery.consecutive in body should be less than or equal to 1000",
    ),
    ("with half a failure", "{failure: {consecutive: 1.5}}", "spec.failure.consecutive in body must be of type int32"),
    ("with a cooldown in days", "{hold: {cooldown: 1d}}", "spec.hold.cooldown in body should match"),
    (
        "with a cooldown of too many letters",
        "{hold: {cooldown: 10000000000000000000ms}}",
        "spec.hold.cooldown: Too long: may not be more than 20",
    ),
    ("with a cooldown above a week", "{hold: {cooldown: 168h1s}}", "spec.hold.cooldown must be at most 168h"),
    (
        "with a cooldown of more hours than can be counted",
        "{hold: {cooldown: 9999999999999999999h}}",
        "spec.hold.cooldown must be at most 168h",
    ),
    ("with a minimum stay in days", "{hold: {minimumStay: 1d}}", "spec.hold.minimumStay in body should match"),
    (
        "with a minimum stay of too many letters",
        "{hold: {minimumStay: 10000000000000000000ms}}",
        "spec.hold.minimumStay: Too long: may not be more than 20",
    ),
    ("with a minimum stay above a week", "{hold: {minimumStay: 168h1s}}", "spec.hold.minimumStay must be at most 168h"),
    ("with a soak in days", "{failback: {after: 1d}}", "spec.failback.after in body should match"),
    (
        "with a soak of too many letters",
        "{failback: {after: 10000000000000000000ms}}",
        "spec.failback.after: Too long: may not be more than 20",
    ),
    ("with a soak above a week", "{failback: {after: 168h1s}}", "spec.failback.after must be at most 168h"),
    (
        "with an unknown way of failback",
        "{failback: {mode: automatic}}",
        "spec.failback.mode: Unsupported value: \"automatic\": supported values: \"Automatic\", \"Manual\"",
    ),
    (
        "with an unknown answer to none healthy",
        "{whenNoneHealthy: Drop}",
        "spec.whenNoneHealthy: Unsupported value: \"Drop\": supported values: \"Hold\", \"Preferred\"",
    ),
];
