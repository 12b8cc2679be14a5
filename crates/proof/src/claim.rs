//! What a claim is: something that a rule says of Kubernetes, and a way to see whether it is so.

use std::fmt;

use anyhow::Result;
use fastrand::Rng;
use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use crate::api::Refusal;
use crate::mirror::Late;
use crate::room::Stage;
use crate::rules::{Rules, Said};

/// Something to judge and to play: the first object is the one that the rule is asked about, the others are there already.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Subject {
    /// The case it comes from, or the number it follows from.
    pub name: String,
    /// The objects.
    pub objects: Vec<Value>,
    /// The policy's settings.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub settings: Value,
    /// What else the claim wants to know: how many nodes there are, which node fails.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub facts: Value,
}

/// What is said of a claim in the report.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// One word, by which it is chosen.
    pub name: &'static str,
    /// The policies whose words are tried.
    pub policies: &'static [&'static str],
    /// What is claimed, in plain words.
    pub claims: &'static str,
    /// How it is tried.
    pub tried: &'static str,
    /// How many generated objects one run tries.
    pub count: usize,
    /// How many are tried at once.
    pub at_once: usize,
    /// Finding codes of the policies that this claim must meet, in cases or generated objects.
    pub codes: &'static [&'static str],
}

/// Which way a rule decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It stands for the object: the claim is that all is well.
    Accepts,
    /// It stands against it: the claim is that something goes wrong.
    Denies,
    /// It claims nothing of this object, such as with a warning that it could not tell.
    Silent,
}

/// A rule that is wrong on purpose. The proof must notice.
#[derive(Clone, Copy)]
pub struct Wrong {
    /// What is wrong with it.
    pub name: &'static str,
    /// What it says where the real rule says this.
    pub says: fn(&Subject, &Said) -> Said,
}

/// Nothing was seen.
#[derive(Debug)]
pub enum Trouble {
    /// This object cannot be played, such as one that the API server refuses: it does not count.
    Unplayable(String),
    /// The play went wrong: the proof fails.
    Failed(anyhow::Error),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unplayable(why) => f.write_str(why),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<Late> for Trouble {
    fn from(late: Late) -> Self {
        Self::Failed(late.into())
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Trouble {
    /// What the API server holds to be invalid is nothing to play with.
    fn from(refusal: Refusal) -> Self {
        match refusal.code {
            400 | 403 | 422 => Self::Unplayable(refusal.message),
            _ => Self::Failed(refusal.into()),
        }
    }
}

/// A claim.
pub trait Claim: Send + Sync {
    /// What is said of it.
    fn about(&self) -> About;

    /// The cases of `test-data` that it is tried with.
    ///
    /// # Errors
    /// Cases that cannot be read.
    fn cases(&self) -> Result<Vec<Subject>>;

    /// An object that follows from the numbers drawn. Its name is set by the caller.
    fn generate(&self, random: &mut Rng) -> Subject;

    /// What the rule says.
    ///
    /// # Errors
    /// It cannot be asked.
    fn ask(&self, rules: &Rules, subject: &Subject) -> Result<Said>;

    /// What Kubernetes does: facts in JSON, told in the report where they contradict. Nothing here depends on what the rule says,
    /// so that wrong rules are held against the same facts. A room that is opened must be closed, whatever came of the play.
    fn observe<'a>(&'a self, stage: &'a Stage, subject: &'a Subject) -> BoxFuture<'a, Result<Value, Trouble>>;

    /// Which way the rule decided.
    fn stance(&self, subject: &Subject, said: &Said) -> Stance;

    /// How what was seen contradicts what the rule said; nothing where it does not.
    fn contradiction(&self, subject: &Subject, said: &Said, seen: &Value) -> Option<String>;

    /// At least three rules that are wrong on purpose.
    fn wrong(&self) -> Vec<Wrong>;
}
