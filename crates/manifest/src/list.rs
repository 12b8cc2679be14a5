//! Takes a `List` apart.

use serde_json::Value;

use crate::document::Document;

/// Gives the objects of a document: itself, or the items if it is a list, and theirs if they are lists again.
///
/// A list has a `kind` that ends in `List` and `items` that are a list (or null, as the API server writes an empty one).
/// Items of a typed list (`StatefulSetList`) that have neither `apiVersion` nor `kind` get both from it, as the decoder of
/// lists does (`UnstructuredJSONScheme.decodeToList` in k8s.io/apimachinery/pkg/apis/meta/v1/unstructured).
pub(crate) fn expand(document: Document, visit: &mut impl FnMut(Document), problems: &mut impl FnMut(usize, String)) {
    // Depth is bounded by what nests in one document.
    let mut stack = Vec::with_capacity(1);
    stack.push(document);
    while let Some(mut document) = stack.pop() {
        let Some((kind, version)) = list_type(&document.value) else {
            visit(document);
            continue;
        };
        let place = document.place().clone();
        let Some(node) = place.tree().field(place.root(), "items") else { continue };
        let Some(Value::Array(items)) = document.value.get_mut("items").map(Value::take) else { continue };
        let nodes: Vec<usize> = place.tree().children(node).collect();
        let from = stack.len();
        for (item, node) in items.into_iter().zip(nodes) {
            let place = place.at(node);
            match item {
                Value::Object(_) => stack.push(Document::new(typed(item, kind.as_deref(), version.as_deref()), place)),
                other => {
                    let what = crate::what(&other);
                    problems(place.offset(), format!("an item of a `List` is a Kubernetes object, this is {what}"));
                }
            }
        }
        stack[from..].reverse();
    }
}

/// What a list gives to items without a type; nothing if this is no list.
fn list_type(value: &Value) -> Option<(Option<String>, Option<String>)> {
    let kind = value.get("kind")?.as_str()?.strip_suffix("List")?;
    let items = value.get("items")?;
    if !items.is_array() && !items.is_null() {
        return None;
    }
    let version = value.get("apiVersion").and_then(Value::as_str).map(str::to_owned);
    Some(if kind.is_empty() { (None, None) } else { (Some(kind.to_owned()), version) })
}

fn typed(mut item: Value, kind: Option<&str>, version: Option<&str>) -> Value {
    if let (Value::Object(fields), Some(kind)) = (&mut item, kind)
        && !fields.contains_key("kind")
        && !fields.contains_key("apiVersion")
    {
        fields.insert("kind".to_owned(), kind.into());
        if let Some(version) = version {
            fields.insert("apiVersion".to_owned(), version.into());
        }
    }
    item
}
