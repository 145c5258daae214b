//! Source that watches one `ConfigMap`.
//!
//! It lists and watches the one name: a Role that grants get, list and watch with `resourceNames` is enough. The API
//! server ends each watch within a minute, so that a watch that has fallen silent is noticed. A watch that breaks off
//! is begun again with a backoff of its own.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use mail_failover_contract::document::KEY;
use mail_failover_core::model::SharedError;
use mail_failover_runtime::backoff::Backoff;
use mail_failover_runtime::kubernetes::{
    FIRST_BACKOFF, Guarded, LONGEST_BACKOFF, RECOVERED_AFTER, WATCH_SECONDS, WatchProblem,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{DocumentSource, NoDocument, ObjectReference, SourceError, SourceEvent, SourceMessage, tell};

/// Follows the object and sends its events, until the receiver is gone.
pub async fn follow(client: Client, object: ObjectReference, sender: mpsc::Sender<SourceMessage>) {
    let source = DocumentSource::ConfigMap(object.to_string());
    let config = watcher::Config::default().timeout(WATCH_SECONDS).fields(&format!("metadata.name={}", object.name));
    let api: Api<Guarded<ConfigMap>> = Api::namespaced(client, &object.namespace);
    let mut events = watcher(api.clone(), config.clone()).boxed();
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    let mut listed = Listed::default();
    let mut failed_at: Option<Instant> = None;
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(event) => {
                // `Init` only says that a list will be asked for. It is no sign of life.
                if !matches!(event, Event::Init) && failed_at.take().is_some() {
                    backoff.reset();
                    if tell(&sender, &source, SourceEvent::ReachedAgain).await.is_err() {
                        return;
                    }
                }
                match listed.take(event, &object) {
                    Some(event) => tell(&sender, &source, event).await,
                    None => Ok(()),
                }
            }
            Err(error) => {
                let problem = WatchProblem::of(&error);
                if failed_at.is_some_and(|at| at.elapsed() > RECOVERED_AFTER) {
                    backoff.reset();
                }
                failed_at = Some(Instant::now());
                if problem.lists_anew {
                    events = watcher(api.clone(), config.clone()).boxed();
                }
                let cause = SharedError::new(error);
                let unreachable = SourceEvent::Unreachable(SourceError::Watch { text: problem.text, cause });
                let told = tell(&sender, &source, unreachable).await;
                tokio::time::sleep(backoff.after_failure()).await;
                told
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// Memory of the list under way: the object was in it, or not.
#[derive(Debug, Default)]
struct Listed {
    found: bool,
}

impl Listed {
    fn take(&mut self, event: Event<Guarded<ConfigMap>>, object: &ObjectReference) -> Option<SourceEvent> {
        match event {
            Event::Init => {
                self.found = false;
                None
            }
            Event::InitApply(config_map) | Event::Apply(config_map) => {
                self.found = true;
                Some(document(config_map))
            }
            Event::InitDone if self.found => None,
            Event::InitDone => Some(SourceEvent::Missing(NoDocument::NoConfigMap(object.to_string()))),
            Event::Delete(_) => Some(SourceEvent::Missing(NoDocument::Deleted)),
        }
    }
}

fn document(config_map: Guarded<ConfigMap>) -> SourceEvent {
    match config_map.0 {
        Err(invalid) => SourceEvent::Missing(NoDocument::Malformed(invalid.error)),
        Ok(config_map) => match config_map.data.and_then(|mut data| data.remove(KEY)) {
            Some(text) => SourceEvent::Document(text),
            None => SourceEvent::Missing(NoDocument::NoKey),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(data: &Value) -> Guarded<ConfigMap> {
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "x", "uid": "1"}, "data": data}))
            .unwrap()
    }

    #[test]
    fn every_way_to_be_without_a_document_is_told() {
        let reference = ObjectReference { namespace: "shop".to_owned(), name: "x".to_owned() };
        let mut listed = Listed::default();
        let missing = |why: NoDocument| Some(SourceEvent::Missing(why));
        assert_eq!(NoDocument::NoKey.to_string(), "it has no key agent.json");
        let good = || object(&json!({KEY: "{}"}));
        for (what, event, want) in [
            ("a list begins", Event::Init, None),
            ("and is empty", Event::InitDone, missing(NoDocument::NoConfigMap("shop/x".to_owned()))),
            ("it is made", Event::Apply(good()), Some(SourceEvent::Document("{}".to_owned()))),
            ("its key goes", Event::Apply(object(&json!({"other": "{}"}))), missing(NoDocument::NoKey)),
            ("all of its data go", Event::Apply(object(&Value::Null)), missing(NoDocument::NoKey)),
            ("it goes", Event::Delete(good()), missing(NoDocument::Deleted)),
            ("another list begins", Event::Init, None),
            ("and has it", Event::InitApply(good()), Some(SourceEvent::Document("{}".to_owned()))),
            ("and ends", Event::InitDone, None),
        ] {
            assert_eq!(listed.take(event, &reference), want, "{what}");
        }
        let Some(SourceEvent::Missing(error)) = listed.take(Event::Apply(object(&json!(7))), &reference) else {
            panic!()
        };
        assert!(error.to_string().starts_with("data: invalid type"), "{error}");
    }
}
