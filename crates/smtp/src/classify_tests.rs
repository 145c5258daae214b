use proptest::prelude::*;

use super::Answered::{Auth, Connection, Data, Hello, Mail, Recipient, StartTls};
use super::*;
use EvidenceClass::{
    AccountPaused, AuthenticationRefused, Ok, Permanent, ProbeBlocked, ProtocolError, QuotaExhausted, RecipientLevel,
    Reputation, Temporary, Throttled, TlsFailed,
};
use mail_failover_core::model::Effect;

/// Replies as servers and providers send them, by sender. Addresses and names are those reserved for documentation.
const REPLIES: &[(&str, Answered, &str, EvidenceClass)] = &[
    // Postfix
    ("Postfix", Connection, "220 mx.example.com ESMTP Postfix (Debian/GNU)", Ok),
    ("Postfix", Connection, "421 4.7.0 mx.example.com Error: too many connections from 192.0.2.7", Throttled),
    ("Postfix", Connection, "421 4.3.2 Service currently unavailable", Temporary),
    ("Postfix", Connection, "421 4.3.2 All server ports are busy", Temporary),
    ("Postfix", Hello, "421 4.3.0 mx.example.com Server local error", Temporary),
    ("Postfix", Hello, "421 4.7.0 mx.example.com Error: too many errors", Temporary),
    ("Postfix", Connection, "421 4.7.0 mx.example.com Error: Connection rate limit exceeded from 192.0.2.7", Throttled),
    (
        "Postfix",
        Connection,
        "521 5.7.1 Service unavailable; client [192.0.2.7] blocked using zen.spamhaus.org",
        Reputation,
    ),
    // Refuses our address and nothing else: nothing else is known to it yet.
    ("Postfix", Connection, "554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied", Reputation),
    ("Postfix", Hello, "502 5.5.2 Error: command not recognized", Permanent),
    // Our name in EHLO is our own fault.
    ("Postfix", Hello, "504 5.5.2 <operator>: Helo command rejected: need fully-qualified hostname", ProbeBlocked),
    ("Postfix", StartTls, "220 2.0.0 Ready to start TLS", Ok),
    ("Postfix", StartTls, "454 4.7.0 TLS not available due to local problem", TlsFailed),
    ("Postfix", StartTls, "502 5.5.1 Error: command not implemented", TlsFailed),
    ("Postfix", StartTls, "421 4.3.2 shutting down", Temporary),
    ("Postfix", Auth, "535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", AuthenticationRefused),
    (
        "Postfix",
        Auth,
        "454 4.7.0 Temporary authentication failure: Connection lost to authentication server",
        Temporary,
    ),
    ("Postfix", Mail, "530 5.7.0 Must issue a STARTTLS command first", Permanent),
    ("Postfix", Mail, "452 4.3.1 Insufficient system storage", Temporary),
    ("Postfix", Mail, "450 4.7.1 Error: too much mail from 192.0.2.7", Throttled),
    (
        "Postfix",
        Recipient,
        "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown in local recipient table",
        RecipientLevel,
    ),
    ("Postfix", Recipient, "451 4.3.0 <ann@example.com>: Temporary lookup failure", Temporary),
    ("Postfix", Recipient, "554 5.7.1 <ann@example.com>: Relay access denied", Permanent),
    ("Postfix", Recipient, "450 4.2.0 <ann@example.com>: Recipient address rejected: Greylisted", RecipientLevel),
    ("Postfix", Recipient, "452 4.5.3 Error: too many recipients", RecipientLevel),
    (
        "Postfix",
        Recipient,
        "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
        Reputation,
    ),
    ("Postfix", Data, "250 2.0.0 Ok: queued as 4F1B2C3D4E", Ok),
    ("Postfix", Data, "354 End data with <CR><LF>.<CR><LF>", Ok),
    ("Postfix", Data, "552 5.3.4 Error: message file too big", RecipientLevel),
    // Exim
    ("Exim", Connection, "220 mx.example.com ESMTP Exim 4.96 Tue, 24 Nov 2026 15:00:00 +0000", Ok),
    ("Exim", Connection, "421 Too many concurrent SMTP connections; please try again later.", Throttled),
    (
        "Exim",
        Connection,
        "421 Too many concurrent SMTP connections from this IP address; please try again later.",
        Throttled,
    ),
    ("Exim", Connection, "421 Too much load; please try again later.", Temporary),
    ("Exim", Connection, "421 mx.example.com: SMTP command timeout - closing connection", Temporary),
    ("Exim", Connection, "554 SMTP service not available", Permanent),
    // As a greeting it can only mean our address.
    ("Exim", Connection, "550 Administrative prohibition", Reputation),
    ("Exim", Hello, "550 Administrative prohibition", Permanent),
    ("Exim", StartTls, "454 TLS currently unavailable", TlsFailed),
    ("Exim", StartTls, "503 STARTTLS command used when not advertised", TlsFailed),
    ("Exim", Auth, "535 Incorrect authentication data", AuthenticationRefused),
    ("Exim", Auth, "435 Unable to authenticate at present", Temporary),
    ("Exim", Recipient, "550 relay not permitted", Permanent),
    ("Exim", Recipient, "451 Temporary local problem - please try later", Temporary),
    // OpenSMTPD
    ("OpenSMTPD", Connection, "220 mx.example.com ESMTP OpenSMTPD", Ok),
    ("OpenSMTPD", Connection, "421 4.3.0 Temporary Error", Temporary),
    ("OpenSMTPD", Hello, "501 5.5.1 Invalid command: HELO requires domain", ProbeBlocked),
    ("OpenSMTPD", Recipient, "550 Invalid recipient: <ann@example.com>", RecipientLevel),
    // HAProxy has no replies of its own in TCP mode; in front of an HTTP backend it is no SMTP at all, and the reader
    // refuses it. Amazon SES
    ("SES", Connection, "220 email-smtp.amazonaws.com ESMTP SimpleEmailService-d-EXAMPLE", Ok),
    ("SES", StartTls, "220 Ready to start TLS", Ok),
    ("SES", Auth, "535 Authentication Credentials Invalid", AuthenticationRefused),
    ("SES", Mail, "530 Authentication required", AuthenticationRefused),
    ("SES", Mail, "454 4.7.0 Throttling failure: Maximum sending rate exceeded.", Throttled),
    ("SES", Data, "454 Throttling failure: Maximum sending rate exceeded.", Throttled),
    ("SES", Data, "454 4.7.0 Throttling failure: Daily message quota exceeded.", QuotaExhausted),
    (
        "SES",
        Data,
        "554 Message rejected: Sending paused for this account. For more information, please check the inbox of the email address associated with your AWS account.",
        AccountPaused,
    ),
    (
        "SES",
        Data,
        "554 Message rejected: Email address is not verified. The following identities failed the check in region EU-WEST-1: ann@example.com",
        Permanent,
    ),
    ("SES", Connection, "421 Too many concurrent SMTP connections", Throttled),
    ("SES", Hello, "451 4.4.2 Timeout waiting for data from client.", Temporary),
    // SendGrid
    ("SendGrid", Connection, "220 SG ESMTP service ready at geopod-ismtpd-1", Ok),
    ("SendGrid", Auth, "451 Authentication failed: Maximum credits exceeded", QuotaExhausted),
    ("SendGrid", Auth, "535 Authentication failed: Bad username / password", AuthenticationRefused),
    (
        "SendGrid",
        Auth,
        "535 Authentication failed: The provided authorization grant is invalid, expired, or revoked",
        AuthenticationRefused,
    ),
    ("SendGrid", Auth, "535 Authentication failed: account disabled", AccountPaused),
    ("SendGrid", Mail, "550 Unauthenticated senders not allowed", AuthenticationRefused),
    ("SendGrid", Recipient, "452 Too many recipients received this hour", Throttled),
    (
        "SendGrid",
        Data,
        "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.",
        Permanent,
    ),
    // Mailgun
    ("Mailgun", Connection, "220 Mailgun Influx ready", Ok),
    ("Mailgun", Auth, "535 5.7.0 Invalid login or password", AuthenticationRefused),
    (
        "Mailgun",
        Data,
        "421 Domain example.com is not allowed to send: recipient limit exceeded, try again after Mon, 23 Nov 2026 07:00:31 UTC",
        QuotaExhausted,
    ),
    (
        "Mailgun",
        Data,
        "421 Domain example.com is not allowed to send: Please activate your Mailgun account.",
        // Waiting does not help: a person must act.
        AccountPaused,
    ),
    (
        "Mailgun",
        Data,
        "421 Domain example.com is not allowed to send: Account has been temporarily disabled. Please contact support.",
        AccountPaused,
    ),
    // Postmark
    ("Postmark", Connection, "220 smtp.postmarkapp.com ESMTP", Ok),
    ("Postmark", Auth, "535 5.7.8 Error: authentication failed", AuthenticationRefused),
    // SparkPost
    ("SparkPost", Auth, "535 5.7.8 Sorry.", AuthenticationRefused),
    ("SparkPost", Data, "550 5.7.1 Unconfigured Sending Domain <demo.example.com>", Permanent),
    ("SparkPost", Data, "550 5.6.0 JSON parsing error in X-MSYS-API", RecipientLevel),
    ("SparkPost", Data, "420 Exceed Sending Limit (daily)", QuotaExhausted),
    ("SparkPost", Data, "554 5.7.1 recipient address was suppressed due to customer policy", RecipientLevel),
    // Brevo
    ("Brevo", Connection, "220 smtp-relay.brevo.com ESMTP", Ok),
    ("Brevo", Auth, "535 5.7.8 Authentication failed", AuthenticationRefused),
    ("Brevo", Auth, "525 5.7.1 Unauthorized IP address", AuthenticationRefused),
    ("Brevo", Mail, "525 5.7.1 Unauthorized IP address", AuthenticationRefused),
    // Gmail and the relay of Google Workspace
    ("Google", Connection, "220 smtp-relay.gmail.com ESMTP a1-20020a0000000000b000000000000001sm1.1 - gsmtp", Ok),
    ("Google", Connection, "421 4.7.0 Temporary System Problem. Try again later.", Temporary),
    ("Google", Hello, "421 4.7.0 Try again later, closing connection. (EHLO)", Temporary),
    ("Google", Hello, "421 4.7.0 Too many messages, please try again later.", Throttled),
    (
        "Google",
        Mail,
        "550 5.7.1 Daily SMTP relay limit exceeded for customer. For more information on SMTP relay sending limits please contact your administrator.",
        QuotaExhausted,
    ),
    ("Google", Data, "550 5.4.5 Daily user sending limit exceeded.", QuotaExhausted),
    (
        "Google",
        Mail,
        "550 5.7.1 Invalid credentials for relay [192.0.2.7]. The IP address you've registered in your Workspace SMTP Relay service doesn't match",
        Permanent,
    ),
    (
        "Google",
        Data,
        "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address. To protect our users from spam, mail sent from your IP address has been temporarily rate limited.",
        Throttled,
    ),
    (
        "Google",
        Data,
        "550 5.7.1 Our system has detected that this message is likely suspicious due to the very low reputation of the sending IP address.",
        Reputation,
    ),
    (
        "Google",
        Recipient,
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly.",
        RecipientLevel,
    ),
    ("Google", Recipient, "452 4.2.2 The recipient's inbox is out of storage space and inactive.", RecipientLevel),
    ("Google", Auth, "535 5.7.8 Username and Password not accepted.", AuthenticationRefused),
    ("Google", Mail, "530 5.7.0 Authentication Required.", AuthenticationRefused),
    // Microsoft 365
    ("Microsoft", Connection, "220 AM0PR01CA0001.outlook.office365.com Microsoft ESMTP MAIL Service ready", Ok),
    ("Microsoft", Connection, "421 4.3.2 Service not available", Temporary),
    (
        "Microsoft",
        Connection,
        "421 4.3.2 The maximum number of concurrent server connections has exceeded a limit, closing transmission channel",
        Throttled,
    ),
    (
        "Microsoft",
        Connection,
        "451 4.7.652 The mail server [192.0.2.7] has exceeded the maximum number of connections.",
        Throttled,
    ),
    ("Microsoft", Data, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Throttled),
    (
        "Microsoft",
        Auth,
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
        AuthenticationRefused,
    ),
    ("Microsoft", Mail, "530 5.7.57 Client not authenticated to send mail.", AuthenticationRefused),
    ("Microsoft", Recipient, "550 5.7.606 Access denied, banned sending IP [192.0.2.7]", Reputation),
    ("Microsoft", Recipient, "550 5.7.501 Service unavailable. Access denied, spam abuse detected", Reputation),
    (
        "Microsoft",
        Data,
        "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients",
        QuotaExhausted,
    ),
    // Exchange Online says so of a recipient that does not exist.
    ("Microsoft", Recipient, "550 5.4.1 Recipient address rejected: Access denied.", RecipientLevel),
    ("Microsoft", Data, "554 5.2.2 mailbox full", RecipientLevel),
    ("Domino", Recipient, "550 ann@example.com... User not listed in public Name & Address Book", RecipientLevel),
    ("any", Recipient, "550 5.2.1 The mailbox has been blocked", RecipientLevel),
    (
        "Microsoft",
        Data,
        "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message due to a permanent exception with message WASCL UserAction verdict is not None. Actual verdict is Suspend, ShowTierUpgrade.",
        AccountPaused,
    ),
    // Accounts: ours …
    ("SES", Data, "554 Message rejected: Sending paused for this configuration set.", AccountPaused),
    ("any", Mail, "450 4.7.1 Sending has been paused for your account", AccountPaused),
    ("any", Auth, "454 4.7.0 Your account is under review", AccountPaused),
    ("any", Mail, "550 5.7.1 Account suspended, see https://esp.example/review", AccountPaused),
    ("any", Data, "550 5.7.1 This account has been deactivated", AccountPaused),
    ("any", Connection, "554 Account closed", AccountPaused),
    ("any", Recipient, "550 Your account is currently suspended", AccountPaused),
    // … and the recipient's.
    ("Google", Recipient, "550 5.2.1 The email account that you tried to reach is disabled.", RecipientLevel),
    (
        "Yahoo",
        Data,
        "554 delivery error: dd Sorry, your message to ann@example.com cannot be delivered. This account has been disabled or discontinued [#102].",
        RecipientLevel,
    ),
    ("any", Recipient, "550 This account has been suspended", RecipientLevel),
    // Not "your account": recipients have accounts, too.
    ("any", Recipient, "550 5.7.1 Account disabled", RecipientLevel),
    ("any", Data, "554 5.2.1 Account disabled, not accepting messages", RecipientLevel),
    // Neither.
    ("any", Connection, "421 4.3.2 No account of that name; connection closed", Temporary),
    ("SES", Auth, "454 4.7.0 Temporary authentication failure", Temporary),
    // Gateways
    (
        "IronPort",
        Connection,
        "554 Your access to this mail system has been rejected due to the sending MTA's poor reputation.",
        Reputation,
    ),
    ("any", Mail, "552 5.2.2 Mailbox of your account exceeds its limit", QuotaExhausted),
    ("any", Recipient, "552 5.2.2 Mailbox full", RecipientLevel),
    ("any", Recipient, "553 5.1.8 Sender address rejected: Domain not found", Permanent),
    ("any", Connection, "550 5.1.1 nonsense in a greeting", Reputation),
    ("any", Connection, "400 odd", Temporary),
    ("any", Connection, "600 no such code", ProtocolError),
    ("any", Connection, "199 no such code", ProtocolError),
];

fn classify_line(answered: Answered, line: &str) -> EvidenceClass {
    let (code, text) = line.split_at(3);
    let text = text.trim_start();
    classify(answered, code.parse().unwrap(), EnhancedCode::of_text(text), text)
}

#[test]
fn real_replies_have_the_class_that_a_postmaster_would_give_them() {
    let wrong: Vec<_> = REPLIES
        .iter()
        .filter(|(_, answered, line, class)| classify_line(*answered, line) != *class)
        .map(|(from, answered, line, class)| {
            format!("{from} {answered:?} {line}: {class:?}, not {:?}", classify_line(*answered, line))
        })
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
}

fn any_answered() -> impl Strategy<Value = Answered> {
    prop::sample::select(vec![Connection, Hello, StartTls, Auth, Mail, Recipient, Data])
}

fn any_text() -> impl Strategy<Value = String> {
    let phrases: Vec<&str> = mail_failover_replies::rules()
        .iter()
        .flat_map(mail_failover_replies::Rule::examples)
        .map(String::as_str)
        .collect();
    prop_oneof![
        any::<String>(),
        prop::sample::select(phrases).prop_map(str::to_owned),
        "[245]\\.[0-9]{1,3}\\.[0-9]{1,3} .*"
    ]
}

proptest! {
    #[test]
    fn any_reply_has_a_class(answered in any_answered(), code in any::<u16>(), text in any_text()) {
        let class = classify(answered, code, EnhancedCode::of_text(&text), &text);
        prop_assert_eq!(class == Ok, (200..400).contains(&code));
        prop_assert_eq!(class == ProtocolError, !(200..600).contains(&code));
    }

    #[test]
    fn before_a_recipient_is_named_nothing_is_the_recipients_fault(
        answered in prop::sample::select(vec![Connection, Hello, StartTls, Auth]), code in 400..600_u16, text in any_text(),
    ) {
        prop_assert_ne!(classify(answered, code, EnhancedCode::of_text(&text), &text), RecipientLevel);
    }

    // A 5xx that asks for less is throttling, as a 4xx is; one about our name in EHLO is our own fault; everything else
    // counts.
    #[test]
    fn a_permanent_refusal_before_any_recipient_counts_unless_it_asks_for_less_or_is_our_fault(
        answered in prop::sample::select(vec![Connection, Hello, StartTls, Auth]), code in 500..600_u16, text in any_text(),
    ) {
        let class = classify(answered, code, EnhancedCode::of_text(&text), &text);
        prop_assert!(matches!(class, Throttled | ProbeBlocked) || class.effect() == Effect::Failure);
    }
}
