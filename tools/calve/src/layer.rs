//! `calve layer`: layers of a running host, over the paths and documents of AWS Lambda's API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use crate::args::{Layer, Layers, PublishLayer};
use crate::failure::{Failure, Status};
use crate::host::{Ask, Host, read_package, segment};
use crate::progress::Bar;
use crate::table::Table;
use crate::{interrupt, stdio};

/// Path of all layers: API version 2018-10-31.
const LAYERS: &str = "/2018-10-31/layers";

/// What of a layer version commands look at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    layer_version_arn: String,
    version: u64,
    #[serde(default)]
    description: String,
    #[serde(default)]
    created_date: String,
    #[serde(default)]
    compatible_runtimes: Vec<String>,
}

/// A layer of `ListLayers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Latest {
    layer_name: String,
    latest_matching_version: Version,
}

/// One page of a list; which one it is says its field.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(alias = "LayerVersions")]
    layers: Vec<Box<RawValue>>,
    #[serde(default)]
    next_marker: Option<String>,
}

/// Does what the subcommand says.
pub(crate) fn run(args: Layers) -> Result<(), Failure> {
    // The host does each thing wholly or not at all.
    let _guard = interrupt::leave_at_once();
    let host = Host::new(&args.server)?;
    match args.command {
        Layer::Publish(args) => publish(&host, args),
        Layer::Ls { name, json } => list(&host, name.as_deref(), json),
        Layer::Rm { versions } => remove(&host, &versions),
    }
}

/// Publishes a layer version and prints its ARN.
fn publish(host: &Host, args: PublishLayer) -> Result<(), Failure> {
    let bar = Bar::new();
    bar.stage(&format!("Packing {}", args.content.display()));
    let package = STANDARD.encode(read_package(&args.content)?);
    let mut document = Map::new();
    document.insert("Content".into(), json!({ "ZipFile": package }));
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            document.insert(name.to_owned(), value);
        }
    };
    set("Description", args.description.map(Value::from));
    set("LicenseInfo", args.license.map(Value::from));
    set("CompatibleRuntimes", (!args.runtime.is_empty()).then(|| json!(args.runtime)));
    bar.stage(&format!("Sending {}", args.name));
    let ask = Ask::new(Method::POST, versions(&args.name)).json(&document.into());
    let published: Version = host.document(ask).map_err(|failure| failure.about(&args.name))?;
    drop(bar);
    stdio::print_line(published.layer_version_arn)
}

/// Lists the latest version of each layer, or all versions of one.
fn list(host: &Host, name: Option<&str>, json: bool) -> Result<(), Failure> {
    let layers = all(host, &name.map_or_else(|| LAYERS.to_owned(), versions))?;
    if json {
        return layers.iter().try_for_each(|layer| stdio::print_line(layer.get()));
    }
    let mut table = Table::new(["NAME", "VERSION", "RUNTIMES", "PUBLISHED", "DESCRIPTION", "ARN"]);
    for layer in &layers {
        let (name, of) = match name {
            Some(name) => (name.to_owned(), read(layer)?),
            None => {
                let Latest { layer_name, latest_matching_version } = read(layer)?;
                (layer_name, latest_matching_version)
            }
        };
        let (version, runtimes) = (of.version.to_string(), of.compatible_runtimes.join(","));
        let (created, arn) = (of.created_date, of.layer_version_arn);
        table.row([name, version, runtimes, created, of.description, arn]);
    }
    stdio::print(table.render().as_bytes())
}

fn read<'a, T: Deserialize<'a>>(item: &'a RawValue) -> Result<T, Failure> {
    serde_json::from_str(item.get())
        .map_err(|error| Failure::of(Status::Machine, &error).about("a layer of the list"))
}

/// Page for page.
fn all(host: &Host, path: &str) -> Result<Vec<Box<RawValue>>, Failure> {
    let mut layers = Vec::new();
    let mut marker = None;
    loop {
        let page: Page = host.document(Ask::get(path).query("Marker", marker.as_deref()))?;
        layers.extend(page.layers);
        match page.next_marker.filter(|next| !next.is_empty()) {
            Some(next) => marker = Some(next),
            None => return Ok(layers),
        }
    }
}

/// Removes all versions that can be removed, and fails for the first that cannot.
fn remove(host: &Host, all: &[String]) -> Result<(), Failure> {
    stdio::all(all.iter().map(|version| remove_one(host, version)))
}

/// Removes `NAME:VERSION`, or what an ARN stands for, which ends alike.
fn remove_one(host: &Host, version: &str) -> Result<(), Failure> {
    let (name, number) = version.rsplit_once(':').ok_or_else(|| {
        Failure::usage("which version? Write NAME:VERSION, or its ARN").about(version)
    })?;
    let ask = Ask::new(Method::DELETE, format!("{}/{}", versions(name), segment(number)));
    host.ask(ask).map(drop).map_err(|failure| failure.about(version))
}

/// Path of a layer's versions.
fn versions(name: &str) -> String {
    format!("{LAYERS}/{}/versions", segment(name))
}
