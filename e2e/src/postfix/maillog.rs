//! Deliveries in Postfix's log. It has whole seconds only, so no duration is measured by it.

use std::collections::BTreeSet;

/// The text of a log.
#[derive(Clone, Debug, Default)]
pub struct MailLog(String);

impl MailLog {
    /// A log with this text.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// Recipients whose message was bounced.
    pub fn bounced(&self) -> BTreeSet<String> {
        let deliveries = self.0.lines().filter(|line| line.contains(" status=bounced "));
        deliveries.filter_map(recipient).map(str::to_owned).collect()
    }

    /// The number of deliveries after which Postfix cannot know if the server has the message.
    pub fn may_be_sent_more_than_once(&self) -> usize {
        self.0.lines().filter(|line| line.contains("message may be sent more than once")).count()
    }

    /// The number of deferred deliveries.
    pub fn deferred(&self) -> usize {
        self.0.lines().filter(|line| line.contains(" status=deferred ")).count()
    }

    /// Lines that contain this text.
    pub fn lines_with<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter(move |line| line.contains(text))
    }
}

/// The address in ` to=<address>,`.
fn recipient(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(" to=<")?;
    Some(rest.split_once(">,")?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_bounced_is_told_from_what_is_put_off() {
        let log = MailLog::new(
            "Nov 25 15:21:29 mx postfix/smtp[1]: CF0: to=<a@x.test>, relay=192.0.2.1[192.0.2.1]:25, delay=0.01, delays=0/0/0/0.01, dsn=5.7.1, status=bounced (host 192.0.2.1[192.0.2.1] said: 554 no)\n\
             Nov 25 15:21:29 mx postfix/smtp[1]: CF1: to=<b@x.test>, relay=none, delay=0.01, delays=0/0/0/0.01, dsn=4.4.1, status=deferred (connect to 192.0.2.1[192.0.2.1]:25: Connection refused)\n\
             Nov 25 15:21:29 mx postfix/smtp[1]: CF2: lost connection with 192.0.2.1[192.0.2.1] while sending end of data -- message may be sent more than once\n"
                .to_owned(),
        );
        assert_eq!(log.bounced().into_iter().collect::<Vec<_>>(), ["a@x.test"]);
        assert_eq!((log.deferred(), log.may_be_sent_more_than_once()), (1, 1));
    }
}
