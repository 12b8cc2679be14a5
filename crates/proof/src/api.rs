//! The Kubernetes API, spoken in JSON: objects go in as a user would write them, and nothing is lost on the way.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use cluster::Resources;
use futures::Stream;
use http::HeaderValue;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Client, Config};
use serde::Serialize;
use serde_json::{Value, json};

/// The API server did not do what it was asked.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The HTTP status; 0 where there was no answer.
    pub code: u16,
    /// The reason in one word, such as `Invalid`.
    pub reason: String,
    /// The server's own words.
    pub message: String,
    /// What is wrong, one by one, where the object is invalid.
    pub causes: Vec<Cause>,
}

/// One thing that the API server finds wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Where, in the server's way of writing: `spec.containers[0].image`.
    pub field: String,
    /// Why, in the server's words.
    pub message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.message, self.code, self.reason)
    }
}

impl std::error::Error for Refusal {}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let causes =
                    causes.map(|cause| Cause { field: cause.field.clone(), message: cause.message.clone() }).collect();
                Self { code: status.code, reason: status.reason.clone(), message: status.message.clone(), causes }
            }
            error => Self { code: 0, reason: "NoAnswer".to_owned(), message: error.to_string(), causes: Vec::new() },
        }
    }
}

/// A client with all rights.
#[derive(Clone)]
pub struct Api {
    client: Client,
    resources: Resources,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Api")
    }
}

/// How a change is written.
#[derive(Debug, Clone, Copy)]
pub enum Patch {
    /// RFC 7396.
    Merge,
    /// RFC 6902.
    Json,
}

impl Api {
    /// A client for what the kubeconfig names.
    ///
    /// # Errors
    /// What is wrong with the kubeconfig. Nobody is asked yet.
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        // A watch of something that does not change is silent.
        config.read_timeout = None;
        // What is refused is an answer: an eviction that a budget forbids would be asked for again, for as long as that takes.
        config.default_retry = false;
        let client = Client::try_from(config).context("a client")?;
        Ok(Self { client, resources: Resources::built_in() })
    }

    /// The path of an object's collection, or of the object where `name` is given.
    pub fn path(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> String {
        let resource = self.resources.resolve(api_version, kind, !namespace.is_empty());
        let root = if api_version.contains('/') { "/apis" } else { "/api" };
        let namespaces = if resource.namespaced && !namespace.is_empty() { "/namespaces/" } else { "" };
        let namespace = if resource.namespaced { namespace } else { "" };
        let slash = if name.is_empty() { "" } else { "/" };
        format!("{root}/{api_version}{namespaces}{namespace}/{}{slash}{name}", resource.plural)
    }

    /// The path of this object; of its collection where `whole` is set.
    pub fn path_of(&self, object: &Value, collection: bool) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let name = if collection { String::new() } else { text(&metadata["name"]) };
        self.path(&text(&object["apiVersion"]), &text(&object["kind"]), &text(&metadata["namespace"]), &name)
    }

    /// Creates the object, and gives what is stored.
    ///
    /// # Errors
    /// Why not.
    pub async fn create(&self, object: &Value) -> Result<Value, Refusal> {
        self.send("POST", &self.path_of(object, true), "", Some(object)).await
    }

    /// What would be stored, and whether it would.
    ///
    /// # Errors
    /// Why not.
    pub async fn dry_run(&self, object: &Value) -> Result<Value, Refusal> {
        self.send("POST", &format!("{}?dryRun=All", self.path_of(object, true)), "", Some(object)).await
    }

    /// What is at the path.
    ///
    /// # Errors
    /// Why not.
    pub async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.send("GET", path, "", None).await
    }

    /// What is at the path, of whatever form.
    ///
    /// # Errors
    /// Why not.
    pub async fn get_text(&self, path: &str) -> Result<String, Refusal> {
        let request = request("GET", path, "", None)?;
        Ok(self.client.request_text(request).await?)
    }

    /// Changes what is at the path, which may be that of a subresource.
    ///
    /// # Errors
    /// Why not.
    pub async fn patch(&self, path: &str, form: Patch, change: &Value) -> Result<Value, Refusal> {
        let form = match form {
            Patch::Merge => "application/merge-patch+json",
            Patch::Json => "application/json-patch+json",
        };
        self.send("PATCH", path, form, Some(change)).await
    }

    /// Puts the object in the place of the one that is there.
    ///
    /// # Errors
    /// Why not.
    pub async fn replace(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        self.send("PUT", path, "", Some(object)).await
    }

    /// Sends something to the path: a subresource, such as a pod's eviction.
    ///
    /// # Errors
    /// Why not.
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, Refusal> {
        self.send("POST", path, "", Some(object)).await
    }

    /// Deletes what is at the path, without grace: an object, or all of a collection.
    ///
    /// # Errors
    /// Why not.
    pub async fn delete(&self, path: &str) -> Result<Value, Refusal> {
        let options = json!({ "gracePeriodSeconds": 0, "propagationPolicy": "Background" });
        self.send("DELETE", path, "", Some(&options)).await
    }

    /// Evicts the pod, as a drain does.
    ///
    /// # Errors
    /// Why not: 429 where a budget forbids it, 500 where two budgets select the pod.
    pub async fn evict(&self, namespace: &str, pod: &str) -> Result<(), Refusal> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": { "name": pod, "namespace": namespace },
            "deleteOptions": { "gracePeriodSeconds": 0 },
        });
        let path = format!("{}/eviction", self.path("v1", "Pod", namespace, pod));
        self.post(&path, &eviction).await.map(drop)
    }

    /// What happens to the collection at the path from `version` on.
    pub(crate) async fn watch(
        &self,
        path: &str,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Value>, kube::Error>> + use<>, Refusal> {
        let path = format!("{path}?watch=true&allowWatchBookmarks=false&resourceVersion={version}");
        Ok(self.client.request_events::<Value>(request("GET", &path, "", None)?).await?)
    }

    async fn send(&self, method: &str, path: &str, form: &str, body: Option<&Value>) -> Result<Value, Refusal> {
        Ok(self.client.request(request(method, path, form, body)?).await?)
    }

    /// Asks as somebody else may, and gives all that comes back, a refusal too.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn ask(&self, call: &Call<'_>) -> Result<Answer, Refusal> {
        let mut request = request(call.method, call.path, call.form, call.body)?;
        if let Some(user) = call.user {
            let value = |text: &str| HeaderValue::from_str(text).map_err(|error| unsent(call.path, &error));
            request.headers_mut().insert("Impersonate-User", value(user)?);
            request.headers_mut().insert("Impersonate-Group", value("system:masters")?);
        }
        let response = self.client.send(request.map(Body::from)).await?;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all("warning").iter();
        let warnings = warnings.filter_map(|warning| warned(&String::from_utf8_lossy(warning.as_bytes()))).collect();
        let body = response.into_body().collect_bytes().await?;
        let body = serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into());
        Ok(Answer { code, warnings, body })
    }
}

/// What is asked of the API server, in full.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call<'a> {
    /// Such as `PUT`.
    pub method: &'a str,
    /// With the query.
    pub path: &'a str,
    /// The form of the body, where it is another than JSON.
    pub form: &'a str,
    /// The body.
    pub body: Option<&'a Value>,
    /// Who asks, with all rights, if not the client itself.
    pub user: Option<&'a str>,
}

/// What the API server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// What it warns of, in order.
    pub warnings: Vec<String>,
    /// The object, or the status that says why not.
    pub body: Value,
}

impl Answer {
    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Why it was not done.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

/// The text of a header `299 - "text"`, in which a backslash goes before a quote or a backslash (RFC 7234, 5.5).
fn warned(header: &str) -> Option<String> {
    let quoted = header.split_once('"')?.1.strip_suffix('"')?;
    let mut text = String::new();
    let mut letters = quoted.chars();
    while let Some(letter) = letters.next() {
        text.push(if letter == '\\' { letters.next()? } else { letter });
    }
    Some(text)
}

fn request(method: &str, path: &str, form: &str, body: Option<&Value>) -> Result<http::Request<Vec<u8>>, Refusal> {
    let form = if form.is_empty() { "application/json" } else { form };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let built = http::Request::builder().method(method).uri(path).header("Content-Type", form).body(body);
    built.map_err(|error| unsent(path, &error))
}

fn unsent(path: &str, error: &dyn fmt::Display) -> Refusal {
    Refusal { code: 0, reason: "NoRequest".to_owned(), message: format!("{path}: {error}"), causes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_read_from_its_header() {
        assert_eq!(warned(r#"299 - "a \"b\" \\ c""#), Some(r#"a "b" \ c"#.to_owned()));
        assert_eq!(warned("299 -"), None);
        assert_eq!(warned(r#"299 - "a"#), None);
    }
}
