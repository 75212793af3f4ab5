//! What every command has at hand: the options given to all, the output, time and randomness.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use domicile_types::{Code, Ctx, Error, ids};

use crate::client::Client;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::place::{self, ClientFile, Place};
use crate::sessions::{Session, Sessions};

/// Options that every command takes.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Folder of a deployment that `domicile up` has started.
    #[arg(long, global = true, env = "DOMICILE_DATA", value_name = "DIR", help_heading = "Connection")]
    pub data: Option<PathBuf>,
    /// The region to talk to, by its name in that deployment.
    #[arg(long, global = true, env = "DOMICILE_REGION", value_name = "REGION", help_heading = "Connection")]
    pub region: Option<String>,
    /// A region's listener for people, `https://host:port`, instead of --data and --region.
    #[arg(long, global = true, env = "DOMICILE_ENDPOINT", requires = "ca", help_heading = "Connection")]
    pub endpoint: Option<String>,
    /// The authority that signs the region's certificate (PEM), with --endpoint.
    #[arg(long, global = true, env = "DOMICILE_CA", value_name = "FILE", help_heading = "Connection")]
    pub ca: Option<PathBuf>,
    /// Which of your sessions to use, when you are signed in as several people.
    #[arg(
        long,
        global = true,
        env = "DOMICILE_PROFILE",
        default_value = "default",
        help_heading = "Connection"
    )]
    pub profile: String,
    /// Seconds to wait for an answer.
    #[arg(long, global = true, default_value_t = 30, help_heading = "Connection")]
    pub timeout: u32,
    /// Print one JSON value instead of text; errors are JSON too, on standard error.
    #[arg(long, global = true)]
    pub json: bool,
}

/// One run of a command.
pub struct App {
    /// The options given to all commands.
    pub global: Global,
    /// Where the answer goes.
    pub out: Output,
    /// Time and randomness.
    pub ctx: Ctx,
}

impl App {
    /// A run with these options.
    #[must_use]
    pub fn new(global: Global, ctx: Ctx) -> Self {
        let out = Output::new(global.json);
        Self { global, out, ctx }
    }

    /// The folder of the deployment: the one named, or the one `domicile up` uses by itself.
    ///
    /// # Errors
    /// When none is named and there is no home folder.
    pub fn folder(&self) -> Result<PathBuf> {
        self.global.data.clone().or_else(place::default_folder).ok_or_else(|| {
            Failure::Usage("name a deployment with --data, or a region with --endpoint and --ca".to_owned())
        })
    }

    /// The region to talk to.
    ///
    /// # Errors
    /// When the options name none, or one that is not there.
    pub fn place(&self) -> Result<Place> {
        if let (Some(endpoint), Some(ca)) = (&self.global.endpoint, &self.global.ca) {
            let name = self.global.region.clone().unwrap_or_else(|| endpoint.clone());
            return Ok(Place { name, endpoint: endpoint.clone(), ca: ca.clone() });
        }
        let Some(region) = &self.global.region else {
            return Err(Failure::Usage("name the region with --region".to_owned()));
        };
        self.place_of(region)
    }

    /// The place of a named region of the deployment.
    ///
    /// # Errors
    /// When the deployment or the region is not there.
    pub fn place_of(&self, region: &str) -> Result<Place> {
        let folder = self.folder()?;
        ClientFile::read(&folder)?.place(&folder, region)
    }

    /// Where sessions are kept: in the deployment's folder when one is named, else in the home folder.
    ///
    /// # Errors
    /// When there is no folder to keep them in.
    pub fn sessions(&self) -> Result<Sessions> {
        let folder = self.global.data.clone().or_else(place::state_folder);
        let folder =
            folder.ok_or_else(|| Failure::Usage("no home folder: name one with --data".to_owned()))?;
        Ok(Sessions::at(folder.join("sessions.json")))
    }

    /// A client nobody has signed in on.
    ///
    /// # Errors
    /// When the region is not named or its authority cannot be read.
    pub fn anonymous(&self) -> Result<Client> {
        let client = Client::new(&self.place()?)?;
        Ok(client.with_deadline(Duration::from_secs(u64::from(self.global.timeout.max(1)))))
    }

    /// The session at hand.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] when nobody is signed in at this place under this profile.
    pub fn session(&self) -> Result<Session> {
        self.session_at(&self.place()?)
    }

    fn session_at(&self, place: &Place) -> Result<Session> {
        let session = self.sessions()?.get(&place.name, &self.global.profile)?;
        let now = self.ctx.now().micros();
        let open = session.filter(|session| session.ends_at_micros > now);
        open.ok_or_else(|| Error::new(Code::Unauthenticated).into())
    }

    /// A client with the session at hand.
    ///
    /// # Errors
    /// When nobody is signed in.
    pub fn client(&self) -> Result<Client> {
        Ok(self.anonymous()?.with_token(&self.session()?.token)?)
    }

    /// A client at a named region of the deployment, with the session kept for it.
    ///
    /// # Errors
    /// When nobody is signed in there.
    pub fn client_of(&self, region: &str) -> Result<Client> {
        let place = self.place_of(region)?;
        let session = self.session_at(&place)?;
        let deadline = Duration::from_secs(u64::from(self.global.timeout.max(1)));
        Ok(Client::new(&place)?.with_deadline(deadline).with_token(&session.token)?)
    }

    /// The record a command is about: the one named, or the signed-in client's own.
    ///
    /// # Errors
    /// When none is named and the person signed in is not a client.
    pub fn subject(&self, named: Option<&String>) -> Result<String> {
        if let Some(named) = named {
            return Ok(named.clone());
        }
        let own = self.session()?.subject_id;
        if own.is_empty() {
            return Err(Failure::Usage("name the record with --subject".to_owned()));
        }
        Ok(own)
    }

    /// The idempotency key given, or a fresh one.
    #[must_use]
    pub fn key(&self, given: Option<&String>) -> String {
        given.cloned().unwrap_or_else(|| fresh_key(&self.ctx))
    }
}

/// A fresh idempotency key.
#[must_use]
pub fn fresh_key(ctx: &Ctx) -> String {
    ids::uuid_v4(ctx.rng.as_ref()).as_hyphenated().to_string()
}
