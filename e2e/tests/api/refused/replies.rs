/// Rules about replies: (what, spec, a part of the message).
pub const REPLIES: &[(&str, &str, &str)] = &[
    (
        "of an unknown provider",
        "{smtp: {host: mx.example, port: 25}, provider: Acme}",
        "spec.provider: Unsupported value",
    ),
    (
        "with 0 rules about replies",
        "{smtp: {host: mx.example, port: 25}, replies: []}",
        "spec.replies in body should have at least 1 items",
    ),
    (
        "with a nameless rule about replies",
        "{smtp: {host: mx.example, port: 25}, replies: [{about: Quota, codes: ['554']}]}",
        "spec.replies[0].name: Required value",
    ),
    (
        "with a rule about replies whose name is empty",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: '', about: Quota, codes: ['554']}]}",
        "spec.replies[0].name in body should be at least 1 chars long",
    ),
    (
        "with a rule about replies whose name is too long",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: @64, about: Quota, codes: ['554']}]}",
        "spec.replies[0].name: Too long: may not be more than 63",
    ),
    (
        "with a capital in the name of a rule about replies",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: House, about: Quota, codes: ['554']}]}",
        "spec.replies[0].name in body should match",
    ),
    (
        "with two rules about replies of one name",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, codes: ['554']}, {name: a, about: Rate, codes: ['421']}]}",
        "spec.replies[1]: Duplicate value",
    ),
    (
        "with a rule about replies that says nothing of them",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, codes: ['554']}]}",
        "spec.replies[0].about: Required value",
    ),
    (
        "with a rule about replies of an unknown subject",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Weather, codes: ['554']}]}",
        "spec.replies[0].about: Unsupported value",
    ),
    (
        "with a rule that every reply meets",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, stages: [DATA]}]}",
        "spec.replies[] needs codes, enhancedCodes or words: without any of them it would decide every reply",
    ),
    (
        "with a rule about a message before there is one",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Message, stages: [AUTH], codes: ['554']}]}",
        "spec.replies[].stages must be among MAIL, RCPT and DATA for about Recipient, Message and Destination: before MAIL there is neither",
    ),
    (
        "with a rule about replies of no stage",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, stages: [], codes: ['554']}]}",
        "spec.replies[0].stages in body should have at least 1 items",
    ),
    (
        "with a rule about replies of too many stages",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, stages: [CONN, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, DATA], codes: ['554']}]}",
        "spec.replies[0].stages: Too many: 8: must have at most 7 items",
    ),
    (
        "with a rule about replies of an unknown stage",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, stages: [QUIT], codes: ['554']}]}",
        "spec.replies[0].stages[0]: Unsupported value",
    ),
    (
        "with a stage that stands there twice",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, stages: [DATA, DATA], codes: ['554']}]}",
        "spec.replies[0].stages[1]: Duplicate value",
    ),
    (
        "with a rule about replies of no code",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, codes: []}]}",
        "spec.replies[0].codes in body should have at least 1 items",
    ),
    (
        "with a code that is too long",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, codes: [@8]}]}",
        "spec.replies[0].codes[0]: Too long: may not be more than 7",
    ),
    (
        "with the code of a success",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, codes: ['250']}]}",
        "spec.replies[0].codes[0] in body should match",
    ),
    (
        "with a code that stands there twice",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, codes: ['554', '554']}]}",
        "spec.replies[0].codes[1]: Duplicate value",
    ),
    (
        "with a rule about replies of no enhanced code",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, enhancedCodes: []}]}",
        "spec.replies[0].enhancedCodes in body should have at least 1 items",
    ),
    (
        "with an enhanced code that is too long",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, enhancedCodes: [@10]}]}",
        "spec.replies[0].enhancedCodes[0]: Too long: may not be more than 9",
    ),
    (
        "with half an enhanced code",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, enhancedCodes: ['5.7']}]}",
        "spec.replies[0].enhancedCodes[0] in body should match",
    ),
    (
        "with an enhanced code that stands there twice",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, enhancedCodes: ['5.7.1', '5.7.1']}]}",
        "spec.replies[0].enhancedCodes[1]: Duplicate value",
    ),
    (
        "with a rule about replies of no words",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, words: []}]}",
        "spec.replies[0].words in body should have at least 1 items",
    ),
    (
        "with words that are too long",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, words: [@201]}]}",
        "spec.replies[0].words[0]: Too long: may not be more than 200",
    ),
    (
        "with words that any text has",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, words: ['x*']}]}",
        "must not match the empty text: the rule would decide every reply",
    ),
    (
        "with words that stand there twice",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, words: [x, x]}]}",
        "spec.replies[0].words[1]: Duplicate value",
    ),
    (
        "with words that are no regular expression",
        "{smtp: {host: mx.example, port: 25}, replies: [{name: a, about: Quota, words: ['(x']}]}",
        "spec.replies[0].words[0]: Invalid value",
    ),
];
