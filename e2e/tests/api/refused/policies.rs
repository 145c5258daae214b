/// The name of the case, the spec, and a part of the message.
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
    (
        "with failures that must last for more than an hour",
        "{failure: {lasting: 61m}}",
        "spec.failure.lasting must be at most 1h",
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
    // Failure windows.
    (
        "whose failure window has no duration",
        "{failure: {window: {minimumSamples: 20, failurePercent: 50}}}",
        "spec.failure.window.duration: Required value",
    ),
    (
        "whose failure window has no minimum of samples",
        "{failure: {window: {duration: 1m, failurePercent: 50}}}",
        "spec.failure.window.minimumSamples: Required value",
    ),
    (
        "whose failure window has no percentage",
        "{failure: {window: {duration: 1m, minimumSamples: 20}}}",
        "spec.failure.window.failurePercent: Required value",
    ),
    (
        "with a failure window in days",
        "{failure: {window: {duration: 1d, minimumSamples: 20, failurePercent: 50}}}",
        "spec.failure.window.duration in body should match",
    ),
    (
        "with a failure window of too many letters",
        "{failure: {window: {duration: 10000000000000000000ms, minimumSamples: 20, failurePercent: 50}}}",
        "spec.failure.window.duration: Too long: may not be more than 20",
    ),
    (
        "with a failure window below 1s",
        "{failure: {window: {duration: 999ms, minimumSamples: 20, failurePercent: 50}}}",
        "spec.failure.window.duration must be between 1s and 24h",
    ),
    (
        "with a failure window above 24h",
        "{failure: {window: {duration: 24h1s, minimumSamples: 20, failurePercent: 50}}}",
        "spec.failure.window.duration must be between 1s and 24h",
    ),
    (
        "with a minimum of samples of 0",
        "{failure: {window: {duration: 1m, minimumSamples: 0, failurePercent: 50}}}",
        "spec.failure.window.minimumSamples in body should be greater than or equal to 1",
    ),
    (
        "with a minimum of samples of 10001",
        "{failure: {window: {duration: 1m, minimumSamples: 10001, failurePercent: 50}}}",
        "spec.failure.window.minimumSamples in body should be less than or equal to 10000",
    ),
    (
        "with a percentage of failures of 0",
        "{failure: {window: {duration: 1m, minimumSamples: 20, failurePercent: 0}}}",
        "spec.failure.window.failurePercent in body should be greater than or equal to 1",
    ),
    (
        "with a percentage of failures of 101",
        "{failure: {window: {duration: 1m, minimumSamples: 20, failurePercent: 101}}}",
        "spec.failure.window.failurePercent in body should be less than or equal to 100",
    ),
    // Latency.
    (
        "whose latency has no percentile",
        "{failure: {latency: {above: 5s, for: 1m}}}",
        "spec.failure.latency.percentile: Required value",
    ),
    (
        "whose latency has no limit",
        "{failure: {latency: {percentile: 95, for: 1m}}}",
        "spec.failure.latency.above: Required value",
    ),
    (
        "whose latency has no time",
        "{failure: {latency: {percentile: 95, above: 5s}}}",
        "spec.failure.latency.for: Required value",
    ),
    (
        "with a percentile of 0",
        "{failure: {latency: {percentile: 0, above: 5s, for: 1m}}}",
        "spec.failure.latency.percentile in body should be greater than or equal to 1",
    ),
    (
        "with a percentile of 100",
        "{failure: {latency: {percentile: 100, above: 5s, for: 1m}}}",
        "spec.failure.latency.percentile in body should be less than or equal to 99",
    ),
    (
        "with a latency in days",
        "{failure: {latency: {percentile: 95, above: 1d, for: 1m}}}",
        "spec.failure.latency.above in body should match",
    ),
    (
        "with a latency of too many letters",
        "{failure: {latency: {percentile: 95, above: 10000000000000000000ms, for: 1m}}}",
        "spec.failure.latency.above: Too long: may not be more than 20",
    ),
    (
        "with a latency below 1ns",
        "{failure: {latency: {percentile: 95, above: 0s, for: 1m}}}",
        "spec.failure.latency.above must be more than 0s and at most 5m",
    ),
    (
        "with a latency above 5m",
        "{failure: {latency: {percentile: 95, above: 5m1s, for: 1m}}}",
        "spec.failure.latency.above must be more than 0s and at most 5m",
    ),
    (
        "with a time of slowness in days",
        "{failure: {latency: {percentile: 95, above: 5s, for: 1d}}}",
        "spec.failure.latency.for in body should match",
    ),
    (
        "with a time of slowness of too many letters",
        "{failure: {latency: {percentile: 95, above: 5s, for: 10000000000000000000ms}}}",
        "spec.failure.latency.for: Too long: may not be more than 20",
    ),
    (
        "with a time of slowness below 1s",
        "{failure: {latency: {percentile: 95, above: 5s, for: 999ms}}}",
        "spec.failure.latency.for must be between 1s and 24h",
    ),
    (
        "with a time of slowness above 24h",
        "{failure: {latency: {percentile: 95, above: 5s, for: 24h1s}}}",
        "spec.failure.latency.for must be between 1s and 24h",
    ),
    // Classes.
    (
        "with a class that is not enough by itself",
        "{failure: {immediately: [NoAnswer]}}",
        "spec.failure.immediately[0]: Unsupported value: \"NoAnswer\"",
    ),
    (
        "with a class that stands there twice",
        "{failure: {immediately: [Reputation, Permanent, Reputation]}}",
        "spec.failure.immediately[2]: Duplicate value: \"Reputation\"",
    ),
    (
        "with 9 classes",
        "{failure: {immediately: [Reputation, Reputation, Reputation, Reputation, Reputation, Reputation, Reputation, Reputation, Reputation]}}",
        "spec.failure.immediately: Too many: 9: must have at most 8 items",
    ),
    // Recovery.
    ("with a time of stability in days", "{recovery: {stableFor: 1d}}", "spec.recovery.stableFor in body should match"),
    (
        "with a time of stability of too many letters",
        "{recovery: {stableFor: 10000000000000000000ms}}",
        "spec.recovery.stableFor: Too long: may not be more than 20",
    ),
    (
        "with a time of stability above a week",
        "{recovery: {stableFor: 168h1s}}",
        "spec.recovery.stableFor must be at most 168h",
    ),
    // The budget.
    ("whose budget has no number", "{hold: {budget: {per: 1h}}}", "spec.hold.budget.switches: Required value"),
    ("whose budget has no time", "{hold: {budget: {switches: 3}}}", "spec.hold.budget.per: Required value"),
    (
        "with a budget of 0",
        "{hold: {budget: {switches: 0, per: 1h}}}",
        "spec.hold.budget.switches in body should be greater than or equal to 1",
    ),
    (
        "with a budget of 11",
        "{hold: {budget: {switches: 11, per: 1h}}}",
        "spec.hold.budget.switches in body should be less than or equal to 10",
    ),
    (
        "with a time of its budget in days",
        "{hold: {budget: {switches: 3, per: 1d}}}",
        "spec.hold.budget.per in body should match",
    ),
    (
        "with a time of its budget of too many letters",
        "{hold: {budget: {switches: 3, per: 10000000000000000000ms}}}",
        "spec.hold.budget.per: Too long: may not be more than 20",
    ),
    (
        "with a time of its budget below 1s",
        "{hold: {budget: {switches: 3, per: 999ms}}}",
        "spec.hold.budget.per must be between 1s and 168h",
    ),
    (
        "with a time of its budget above a week",
        "{hold: {budget: {switches: 3, per: 168h1s}}}",
        "spec.hold.budget.per must be between 1s and 168h",
    ),
    // Failback windows.
    (
        "whose failback window has no schedule",
        "{failback: {windows: [{duration: 2h}]}}",
        "spec.failback.windows[0].schedule: Required value",
    ),
    (
        "whose failback window has no duration",
        "{failback: {windows: [{schedule: '0 2 * * *'}]}}",
        "spec.failback.windows[0].duration: Required value",
    ),
    (
        "with a schedule of four fields",
        "{failback: {windows: [{schedule: '10 12 1 * ', duration: 2h}]}}",
        "spec.failback.windows[0].schedule in body should match",
    ),
    (
        "with a schedule of six fields",
        "{failback: {windows: [{schedule: '0 0 2 * * *', duration: 2h}]}}",
        "spec.failback.windows[0].schedule in body should match",
    ),
    (
        "with a schedule of too few letters",
        "{failback: {windows: [{schedule: '* * * *', duration: 2h}]}}",
        "spec.failback.windows[0].schedule in body should be at least 9 chars long",
    ),
    (
        "with a schedule of too many letters",
        "{failback: {windows: [{schedule: '@121 2 * * *', duration: 2h}]}}",
        "spec.failback.windows[0].schedule: Too long: may not be more than 128",
    ),
    (
        "with an empty time zone",
        "{failback: {windows: [{schedule: '0 2 * * *', timeZone: '', duration: 2h}]}}",
        "spec.failback.windows[0].timeZone in body should be at least 1 chars long",
    ),
    (
        "with a time zone of too many letters",
        "{failback: {windows: [{schedule: '0 2 * * *', timeZone: @65, duration: 2h}]}}",
        "spec.failback.windows[0].timeZone: Too long: may not be more than 64",
    ),
    (
        "with a path as time zone",
        "{failback: {windows: [{schedule: '0 2 * * *', timeZone: ../etc/passwd, duration: 2h}]}}",
        "spec.failback.windows[0].timeZone in body should match",
    ),
    (
        "with a failback window in days",
        "{failback: {windows: [{schedule: '0 2 * * *', duration: 1d}]}}",
        "spec.failback.windows[0].duration in body should match",
    ),
    (
        "with a failback window of too many letters",
        "{failback: {windows: [{schedule: '0 2 * * *', duration: 10000000000000000000ms}]}}",
        "spec.failback.windows[0].duration: Too long: may not be more than 20",
    ),
    (
        "with a failback window below 1m",
        "{failback: {windows: [{schedule: '0 2 * * *', duration: 59s}]}}",
        "spec.failback.windows[].duration must be between 1m and 168h",
    ),
    (
        "with a failback window above a week",
        "{failback: {windows: [{schedule: '0 2 * * *', duration: 168h1s}]}}",
        "spec.failback.windows[].duration must be between 1m and 168h",
    ),
    // The ramp.
    (
        "whose ramp has a step without percentage",
        "{failback: {ramp: [{for: 5m}]}}",
        "spec.failback.ramp[0].percent: Required value",
    ),
    (
        "whose ramp has a step without end",
        "{failback: {ramp: [{percent: 10}]}}",
        "spec.failback.ramp[0].for: Required value",
    ),
    (
        "with a step of 0",
        "{failback: {ramp: [{percent: 0, for: 5m}]}}",
        "spec.failback.ramp[0].percent in body should be greater than or equal to 1",
    ),
    (
        "with a step of 100",
        "{failback: {ramp: [{percent: 100, for: 5m}]}}",
        "spec.failback.ramp[0].percent in body should be less than or equal to 99",
    ),
    (
        "with a step in days",
        "{failback: {ramp: [{percent: 10, for: 1d}]}}",
        "spec.failback.ramp[0].for in body should match",
    ),
    (
        "with a step of too many letters",
        "{failback: {ramp: [{percent: 10, for: 10000000000000000000ms}]}}",
        "spec.failback.ramp[0].for: Too long: may not be more than 20",
    ),
    (
        "with a step below 1s",
        "{failback: {ramp: [{percent: 10, for: 999ms}]}}",
        "spec.failback.ramp[].for must be between 1s and 168h",
    ),
    (
        "with a step above a week",
        "{failback: {ramp: [{percent: 10, for: 168h1s}]}}",
        "spec.failback.ramp[].for must be between 1s and 168h",
    ),
    (
        "whose ramp goes down",
        "{failback: {ramp: [{percent: 50, for: 5m}, {percent: 10, for: 5m}]}}",
        "spec.failback.ramp[].percent must increase from step to step",
    ),
    (
        "whose ramp stands still",
        "{failback: {ramp: [{percent: 10, for: 5m}, {percent: 10, for: 5m}]}}",
        "spec.failback.ramp[].percent must increase from step to step",
    ),
    // Objectives.
    (
        "with an objective in days",
        "{objectives: {recoveryTime: 1d}}",
        "spec.objectives.recoveryTime in body should match",
    ),
    (
        "with an objective of too many letters",
        "{objectives: {recoveryTime: 10000000000000000000ms}}",
        "spec.objectives.recoveryTime: Too long: may not be more than 20",
    ),
    (
        "with an objective below 1s",
        "{objectives: {recoveryTime: 999ms}}",
        "spec.objectives.recoveryTime must be between 1s and 24h",
    ),
    (
        "with an objective above 24h",
        "{objectives: {recoveryTime: 24h1s}}",
        "spec.objectives.recoveryTime must be between 1s and 24h",
    ),
    (
        "with an objective for deliveries in days",
        "{objectives: {deliveryTime: 1d}}",
        "spec.objectives.deliveryTime in body should match",
    ),
    (
        "with an objective for deliveries of too many letters",
        "{objectives: {deliveryTime: 10000000000000000000ms}}",
        "spec.objectives.deliveryTime: Too long: may not be more than 20",
    ),
    (
        "with an objective for deliveries above 24h",
        "{objectives: {deliveryTime: 24h1s}}",
        "spec.objectives.deliveryTime must be between 1s and 24h",
    ),
    (
        "that promises 0 percent",
        "{objectives: {successPercent: 0}}",
        "spec.objectives.successPercent in body should be greater than or equal to 1",
    ),
    (
        "that promises that nothing ever fails",
        "{objectives: {successPercent: 100}}",
        "spec.objectives.successPercent in body should be less than or equal to 99",
    ),
    (
        "with an availability in words",
        "{objectives: {availability: high}}",
        "spec.objectives.availability in body should match",
    ),
    (
        "with an empty availability",
        "{objectives: {availability: ''}}",
        "spec.objectives.availability in body should be at least 1 chars long",
    ),
    (
        "with an availability of too many nines",
        "{objectives: {availability: '99.99999999'}}",
        "spec.objectives.availability: Too long: may not be more than 8",
    ),
    (
        "with an availability below 50",
        "{objectives: {availability: '49.9'}}",
        "spec.objectives.availability must be at least 50 and below 100: 100 leaves no error budget",
    ),
    (
        "with a window in days",
        "{objectives: {availability: '99.9', window: 30d}}",
        "spec.objectives.window in body should match",
    ),
    (
        "with a window of too many letters",
        "{objectives: {availability: '99.9', window: 10000000000000000000ms}}",
        "spec.objectives.window: Too long: may not be more than 20",
    ),
    (
        "with a window of minutes",
        "{objectives: {availability: '99.9', window: 59m}}",
        "spec.objectives.window must be between 1h and 2160h (90 days)",
    ),
    (
        "with a window of nothing",
        "{objectives: {window: 720h}}",
        "spec.objectives.window alone measures nothing: add an objective",
    ),
    // Real mail.
    (
        "with a verdict by 0 deliveries",
        "{failure: {deliveries: {consecutive: 0}}}",
        "spec.failure.deliveries.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with a verdict by 1001 deliveries",
        "{failure: {deliveries: {consecutive: 1001}}}",
        "spec.failure.deliveries.consecutive in body should be less than or equal to 1000",
    ),
    (
        "with a verdict by deliveries over days",
        "{failure: {deliveries: {lasting: 1d}}}",
        "spec.failure.deliveries.lasting in body should match",
    ),
    (
        "with a verdict by deliveries of too many letters",
        "{failure: {deliveries: {lasting: 10000000000000000000ms}}}",
        "spec.failure.deliveries.lasting: Too long: may not be more than 20",
    ),
    (
        "with a verdict by deliveries over more than 1h",
        "{failure: {deliveries: {lasting: 1h1s}}}",
        "spec.failure.deliveries.lasting must be at most 1h",
    ),
    // Breakers.
    (
        "with a breaker of 0 deliveries",
        "{breaker: {consecutive: 0}}",
        "spec.breaker.consecutive in body should be greater than or equal to 1",
    ),
    (
        "with a breaker of 1001 deliveries",
        "{breaker: {consecutive: 1001}}",
        "spec.breaker.consecutive in body should be less than or equal to 1000",
    ),
    ("with a first pause in days", "{breaker: {firstPause: 1d}}", "spec.breaker.firstPause in body should match"),
    (
        "with a first pause of too many letters",
        "{breaker: {firstPause: 10000000000000000000ms}}",
        "spec.breaker.firstPause: Too long: may not be more than 20",
    ),
    ("with a longest pause in days", "{breaker: {longestPause: 1d}}", "spec.breaker.longestPause in body should match"),
    (
        "with a longest pause of too many letters",
        "{breaker: {longestPause: 10000000000000000000ms}}",
        "spec.breaker.longestPause: Too long: may not be more than 20",
    ),
    ("with failures that last for days", "{failure: {lasting: 1d}}", "spec.failure.lasting in body should match"),
    (
        "with failures that last for too many letters",
        "{failure: {lasting: 10000000000000000000ms}}",
        "spec.failure.lasting: Too long: may not be more than 20",
    ),
    (
        "with a breaker that pauses for less than 1s",
        "{breaker: {firstPause: 999ms}}",
        "spec.breaker.firstPause must be between 1s and 10m",
    ),
    (
        "with a breaker that pauses for more than 1h",
        "{breaker: {longestPause: 1h1s}}",
        "spec.breaker.longestPause must be between 1s and 1h",
    ),
    (
        "with a breaker whose first pause is the longest one",
        "{breaker: {firstPause: 1m1s}}",
        "spec.breaker.firstPause must not exceed spec.breaker.longestPause (default 1m)",
    ),
    ("with a reflex", "{reflex: {consecutive: 3}}", "unknown field"),
];
