use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Provider or server with rules of its own about its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
pub enum ProviderSpec {
    /// Microsoft 365 and Exchange.
    Microsoft,
    /// Gmail and Google Workspace.
    Google,
    /// Zoho Mail and ZeptoMail.
    Zoho,
    /// Amazon SES.
    #[serde(rename = "SES")]
    Ses,
    /// Mailgun.
    Mailgun,
    /// Brevo.
    Brevo,
    /// Twilio `SendGrid`.
    SendGrid,
    /// Postmark.
    Postmark,
    /// Mandrill: Mailchimp Transactional.
    Mandrill,
    /// Mailjet.
    Mailjet,
    /// `SparkPost`: Bird.
    SparkPost,
    /// cPanel's Exim.
    #[serde(rename = "cPanel")]
    Cpanel,
    /// qmail.
    #[serde(rename = "qmail")]
    Qmail,
    /// Yahoo.
    Yahoo,
    /// NetEase: 163, 126, yeah.net.
    NetEase,
    /// Tencent: QQ and Exmail.
    Tencent,
}

impl ProviderSpec {
    /// Every provider.
    pub const ALL: [Self; 16] = [
        Self::Microsoft,
        Self::Google,
        Self::Zoho,
        Self::Ses,
        Self::Mailgun,
        Self::Brevo,
        Self::SendGrid,
        Self::Postmark,
        Self::Mandrill,
        Self::Mailjet,
        Self::SparkPost,
        Self::Cpanel,
        Self::Qmail,
        Self::Yahoo,
        Self::NetEase,
        Self::Tencent,
    ];

    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microsoft => "Microsoft",
            Self::Google => "Google",
            Self::Zoho => "Zoho",
            Self::Ses => "SES",
            Self::Mailgun => "Mailgun",
            Self::Brevo => "Brevo",
            Self::SendGrid => "SendGrid",
            Self::Postmark => "Postmark",
            Self::Mandrill => "Mandrill",
            Self::Mailjet => "Mailjet",
            Self::SparkPost => "SparkPost",
            Self::Cpanel => "cPanel",
            Self::Qmail => "qmail",
            Self::Yahoo => "Yahoo",
            Self::NetEase => "NetEase",
            Self::Tencent => "Tencent",
        }
    }
}

/// A rule about replies: every condition that it has must hold.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(
    validation = Rule::new("has(self.codes) || has(self.enhancedCodes) || has(self.words)").message("spec.replies[] needs codes, enhancedCodes or words: without any of them it would decide every reply"),
    validation = Rule::new("!has(self.stages) || !(self.about in ['Recipient', 'Message', 'Destination']) || self.stages.all(s, s in ['MAIL', 'RCPT', 'DATA'])").message("spec.replies[].stages must be among MAIL, RCPT and DATA for about Recipient, Message and Destination: before MAIL there is neither")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplyRuleSpec {
    /// Name, unique within the backend. Where the rule has decided, messages call it `spec.replies[name]`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Subject of the reply, from which all follows (docs/replies.md has the table). About us: `Account`, `Login`,
    /// `Quota` (the allowance of a day or month), `Identity` (SPF, DKIM, DMARC, an unverified sender), `Address` (block
    /// lists, reputation, PTR), `Rate` (we are too fast), `OurSide` (our name in EHLO). About the server: `Service`,
    /// `Tls`. About the mail, so that nothing is held against the backend: `Recipient`, `Message`, `Destination` (the
    /// policy of the recipient's domain).
    pub about: ReplySubject,

    /// Commands whose replies are meant: CONN (the greeting), HELO, STARTTLS, AUTH, MAIL, RCPT, DATA (DATA and the end
    /// of the message). Default: any, also where a log does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 7))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub stages: Option<Vec<ReplyStageSpec>>,

    /// Codes (RFC 5321), of which one must be the reply's: `550`, `5xx`, `450-452`. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 7), regex(pattern = "^[45]([0-9][0-9](-[45][0-9][0-9])?|xx)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub codes: Option<Vec<String>>,

    /// Enhanced codes (RFC 3463), of which one must be the reply's: `5.7.1`, `x.7.*`, or `none` for a reply without
    /// one. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(max = 9), regex(pattern = r"^([45x]\.([0-9]{1,3}|\*)\.([0-9]{1,3}|\*)|none)$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub enhanced_codes: Option<Vec<String>>,

    /// Regular expressions, of which one must be found in the reply's text: `sending limit of [0-9]+`. In the syntax of
    /// the Rust crate regex, which takes linear time: no look-around, no back-references. The text is in lower case,
    /// all its lines joined by one blank, without codes, accents and what the server quotes of another one. Mail
    /// addresses are read as `addr`, hosts as `host`, IP addresses as `ip`, URLs as `weblink`. Default: any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "words_schema")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub words: Option<Vec<String>>,
}

/// Schema of `words`. Its rule stands with the items, so that a refusal names the one that is meant.
fn words_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 8,
        "nullable": true,
        "items": {
            "type": "string",
            "maxLength": 200,
            "x-kubernetes-validations": [{
                "rule": "!''.matches(self)",
                "message": "must not match the empty text: the rule would decide every reply",
            }],
        },
    })
}

/// Subject of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
pub enum ReplySubject {
    /// Our account: paused, suspended, not yet activated.
    Account,
    /// Our login.
    Login,
    /// Our allowance.
    Quota,
    /// Our sender identity.
    Identity,
    /// Our address or host.
    Address,
    /// Our rate.
    Rate,
    /// The service itself.
    Service,
    /// Encryption.
    Tls,
    /// One recipient or its mailbox.
    Recipient,
    /// One message.
    Message,
    /// The policy of the recipient or its domain.
    Destination,
    /// Our own side.
    OurSide,
}

impl ReplySubject {
    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "Account",
            Self::Login => "Login",
            Self::Quota => "Quota",
            Self::Identity => "Identity",
            Self::Address => "Address",
            Self::Rate => "Rate",
            Self::Service => "Service",
            Self::Tls => "Tls",
            Self::Recipient => "Recipient",
            Self::Message => "Message",
            Self::Destination => "Destination",
            Self::OurSide => "OurSide",
        }
    }
}

/// Command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::without_description)]
pub enum ReplyStageSpec {
    /// The connection: the greeting.
    #[serde(rename = "CONN")]
    Connection,
    /// EHLO or HELO.
    #[serde(rename = "HELO")]
    Hello,
    /// STARTTLS.
    #[serde(rename = "STARTTLS")]
    StartTls,
    /// AUTH and its exchange.
    #[serde(rename = "AUTH")]
    Auth,
    /// MAIL FROM.
    #[serde(rename = "MAIL")]
    Mail,
    /// RCPT TO.
    #[serde(rename = "RCPT")]
    Recipient,
    /// DATA and the end of the message.
    #[serde(rename = "DATA")]
    Data,
}

impl ReplyStageSpec {
    /// Name in specs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "CONN",
            Self::Hello => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Mail => "MAIL",
            Self::Recipient => "RCPT",
            Self::Data => "DATA",
        }
    }
}
