//! Messages to a server: questions and updates, signed or not, and the answers that fit them.

use hickory_proto::op::update_message::UpdateMessage;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigVerifier};

use super::answer::{AnswerError, Asked, refusal};
use super::plan::Update;
use super::record::{NoDnsName, name_text, wire_name};
use super::tsig::TsigKey;

/// Size of the head of a message, in bytes (RFC 1035 §4.1.1).
const HEAD: usize = 12;

/// Error of a message that cannot be written. One from checked names always can be.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NoDnsName),
    /// The message cannot be encoded or signed.
    #[error("a DNS message cannot be written: {0}")]
    Encoding(#[from] hickory_proto::ProtoError),
}

/// A message to a server, and what its answer has to fit.
pub struct Request {
    id: u16,
    bytes: Vec<u8>,
    asked: Asked,
    verifier: Option<TSigVerifier>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Request({}, {:?})", self.id, self.asked)
    }
}

impl Request {
    /// A question for the records of this name and type, signed if there is a key. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`RequestError`] for a name that is none.
    pub fn question(
        id: u16,
        name: &str,
        record_type: RecordType,
        key: Option<&TsigKey>,
        now: u64,
    ) -> Result<Self, RequestError> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(wire_name(name)?, record_type));
        let asked = Asked { what: format!("{name} {record_type}"), is_update: false, key: key.map(TsigKey::name) };
        Self::of(message, asked, key, now)
    }

    /// An update of a zone (RFC 2136 §2), signed. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// [`RequestError`] for a name that is none.
    pub fn update(id: u16, zone: &str, update: &Update, key: &TsigKey, now: u64) -> Result<Self, RequestError> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Update);
        let mut query = Query::query(wire_name(zone)?, RecordType::SOA);
        query.set_query_class(DNSClass::IN);
        message.add_zone(query);
        message.add_pre_requisites(update.prerequisites.iter().cloned());
        message.add_updates(update.updates.iter().cloned());
        let asked = Asked { what: update.what.clone(), is_update: true, key: Some(key.name()) };
        Self::of(message, asked, Some(key), now)
    }

    fn of(mut message: Message, asked: Asked, key: Option<&TsigKey>, now: u64) -> Result<Self, RequestError> {
        let verifier = match key {
            Some(key) => message.finalize(key.signer(), now)?,
            None => None,
        };
        Ok(Self { id: message.id, bytes: message.to_vec()?, asked, verifier })
    }

    /// Id of the message, which its answer repeats.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// The message as it is sent, without the length before it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the answer to this message.
    ///
    /// # Errors
    /// [`AnswerError`] if the server refuses, or if the answer is none of ours.
    pub fn answer(mut self, bytes: &[u8]) -> Result<Answer, AnswerError> {
        let message = Message::from_vec(bytes).map_err(|error| AnswerError::Malformed(error.to_string()))?;
        if message.id != self.id || message.message_type != MessageType::Response {
            return Err(AnswerError::Malformed("it answers another question".to_owned()));
        }
        // A refusal may be unsigned: who does not know the key cannot sign by it (RFC 8945 §5.2). Nothing but a text
        // follows from it.
        if let Some(refusal) = refusal(&message, &self.asked) {
            return Err(refusal);
        }
        if let Some(verifier) = &mut self.verifier {
            verifier.verify(bytes).map_err(|error| AnswerError::Unsigned(error.to_string()))?;
        }
        Ok(Answer(message))
    }
}

/// Id of the message that an answer is to; `None` for what is too short for one.
pub fn answered_id(bytes: &[u8]) -> Option<u16> {
    let id = bytes.get(..HEAD)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*id))
}

/// An answer that is no refusal.
#[derive(Clone, Debug)]
pub struct Answer(Message);

impl Answer {
    /// The records of this name and type, as the server has them.
    pub fn records(&self, name: &str, record_type: RecordType) -> Vec<Record> {
        let is_asked = |record: &&Record| record.record_type() == record_type && name_text(&record.name) == name;
        self.0.answers.iter().filter(is_asked).cloned().collect()
    }

    /// The target of a CNAME at this name.
    pub fn alias(&self, name: &str) -> Option<Name> {
        self.records(name, RecordType::CNAME).into_iter().find_map(|record| target(&record))
    }

    /// The hosts of the NS records of this name.
    pub fn name_servers(&self, zone: &str) -> Vec<String> {
        let mut hosts = vec![];
        for record in self.records(zone, RecordType::NS) {
            if let RData::NS(host) = &record.data {
                hosts.push(name_text(&host.0));
            }
        }
        hosts.sort();
        hosts
    }
}

/// The target of a CNAME record; `None` for another record.
fn target(record: &Record) -> Option<Name> {
    if let RData::CNAME(target) = &record.data { Some(target.0.clone()) } else { None }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::ResponseCode;
    use hickory_proto::rr::rdata::tsig::{TsigAlgorithm, TsigError, make_tsig_record};
    use hickory_proto::rr::rdata::{NS, TSIG};

    use super::*;
    use crate::tsig::tests::key;

    const NOW: u64 = 1_800_000_000;

    fn question(key: Option<&TsigKey>) -> Request {
        Request::question(7, "shop.example", RecordType::NS, key, NOW).unwrap()
    }

    fn answer(code: ResponseCode) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.authoritative = true;
        let host = RData::NS(NS(wire_name("ns1.shop.example").unwrap()));
        message.add_answer(Record::from_rdata(wire_name("Shop.Example").unwrap(), 60, host));
        message
    }

    #[test]
    fn an_answer_has_the_records_that_were_asked_for() {
        let bytes = answer(ResponseCode::NoError).to_vec().unwrap();
        assert_eq!(answered_id(&bytes), Some(7));
        let answer = question(None).answer(&bytes).unwrap();
        assert_eq!(answer.name_servers("shop.example"), ["ns1.shop.example"]);
        assert_eq!(answer.records("shop.example", RecordType::MX), []);
        assert_eq!(answer.alias("shop.example"), None);
    }

    #[test]
    fn an_answer_to_another_question_or_one_without_authority_is_none() {
        let mut other = answer(ResponseCode::NoError);
        other.metadata.id = 8;
        let mut cached = answer(ResponseCode::NoError);
        cached.metadata.authoritative = false;
        for (message, told) in [(other, "another question"), (cached, "not authoritative")] {
            let error = question(None).answer(&message.to_vec().unwrap()).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(matches!(question(None).answer(&[0; 5]), Err(AnswerError::Malformed(_))));
    }

    #[test]
    fn a_signed_question_takes_no_answer_without_a_signature_by_its_key() {
        let key = key(&[7; 32]);
        let bytes = answer(ResponseCode::NoError).to_vec().unwrap();
        assert!(matches!(question(Some(&key)).answer(&bytes), Err(AnswerError::Unsigned(_))));
    }

    #[test]
    fn tsig_refusals_are_named_though_they_are_unsigned() {
        let key = key(&[7; 32]);
        for (error, other, told) in [
            (TsigError::BadKey, vec![], "does not know the TSIG key mail-failover (BADKEY)"),
            (TsigError::BadSig, vec![], "(BADSIG)"),
            // The server's time: 400 s before ours.
            (TsigError::BadTime, (NOW - 400).to_be_bytes()[2..].to_vec(), "ours is 400 s ahead (BADTIME)"),
        ] {
            let mut message = answer(ResponseCode::NotAuth);
            let tsig = TSIG::new(TsigAlgorithm::HmacSha256, NOW, 300, vec![], 7, Some(error), other);
            message.set_signature(Box::new(make_tsig_record(wire_name("mail-failover").unwrap(), tsig)));
            let refused = question(Some(&key)).answer(&message.to_vec().unwrap()).unwrap_err();
            assert!(refused.to_string().contains(told), "{refused}");
            assert_eq!(refused.category(), "tsig");
        }
    }
}
