//! What the providers remember: accounts, tokens, events and meetings.

use crate::google::Event;
use crate::options::Options;
use crate::types::{Account, AccountSpec, Clock, Meeting, Provider, TokenUse};
use crate::zoom::ZoomMeeting;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// The name of an account, shared by everything that it owns.
pub(crate) type Name = Arc<str>;

#[derive(Debug)]
pub(crate) struct Owner {
    pub spec: AccountSpec,
    pub revoked: bool,
    pub tokens: TokenUse,
    pub refresh_token: String,
    pub access_token: String,
    /// Zoom: creations and updates on that day.
    pub day: (NaiveDate, u32),
}

#[derive(Debug)]
struct AccessToken {
    owner: Name,
    expires_at: DateTime<Utc>,
}

/// One provider's accounts. Tokens of one provider mean nothing to the other.
#[derive(Debug)]
pub(crate) struct Side {
    provider: Provider,
    pub client: (String, String),
    pub owners: HashMap<Name, Owner>,
    access: HashMap<String, AccessToken>,
    /// Every refresh token ever issued; dead ones too, to know them when they come back.
    refresh: HashMap<String, Name>,
}

/// Why a bearer token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Unknown,
    Expired,
}

impl Side {
    fn new(provider: Provider) -> Side {
        let client = match provider {
            Provider::Google => (
                "sim-google.apps.googleusercontent.com".into(),
                "GOCSPX-sim-google".into(),
            ),
            Provider::Zoom => ("SimZoomClientId".into(), "SimZoomClientSecret".into()),
        };
        Side {
            provider,
            client,
            owners: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
        }
    }

    fn make_token(&self, kind: &str) -> String {
        let (a, b, c) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
        let random = format!("{}{}{}", a.simple(), b.simple(), c.simple());
        match (self.provider, kind) {
            (Provider::Google, "access") => format!("ya29.sim-{random}"),
            (Provider::Google, _) => format!("1//sim-{random}"),
            (Provider::Zoom, kind) => format!("eyJ.sim-{kind}.{random}"),
        }
    }

    pub fn add(&mut self, spec: AccountSpec, now: DateTime<Utc>) -> Account {
        let number = self.owners.len() + 1;
        let name = spec.name.clone().unwrap_or_else(|| match self.provider {
            Provider::Google => format!("tutor{number}@google.example"),
            Provider::Zoom => format!("tutor{number}@zoom.example"),
        });
        let name: Name = name.into();
        let refresh_token = spec.refresh_token.clone();
        let refresh_token = refresh_token.unwrap_or_else(|| self.make_token("refresh"));
        let access_token = spec.access_token.clone();
        let access_token = access_token.unwrap_or_else(|| self.make_token("access"));
        let owner = Owner {
            revoked: false,
            tokens: TokenUse::default(),
            refresh_token: refresh_token.clone(),
            access_token: String::new(),
            day: (now.date_naive(), 0),
            spec,
        };
        self.owners.insert(name.clone(), owner);
        self.refresh.insert(refresh_token, name.clone());
        self.put_access(&name, access_token, now);
        self.account(&name).expect("it was just made")
    }

    fn put_access(&mut self, name: &Name, token: String, now: DateTime<Utc>) {
        let Some(owner) = self.owners.get_mut(name) else {
            return;
        };
        owner.access_token.clone_from(&token);
        let expires_at = now + TimeDelta::seconds(owner.spec.access_lifetime_s.into());
        self.access.insert(
            token,
            AccessToken {
                owner: name.clone(),
                expires_at,
            },
        );
    }

    /// Issues a further access token; earlier ones stay good until their time.
    pub fn issue_access(&mut self, name: &Name, now: DateTime<Utc>) -> String {
        let token = self.make_token("access");
        self.put_access(name, token.clone(), now);
        token
    }

    /// Issues a refresh token that replaces the account's one; the old is dead from here on.
    pub fn rotate_refresh(&mut self, name: &Name) -> String {
        let token = self.make_token("refresh");
        self.refresh.insert(token.clone(), name.clone());
        if let Some(owner) = self.owners.get_mut(name) {
            owner.refresh_token.clone_from(&token);
        }
        token
    }

    pub fn tokens_ever(&self) -> Vec<String> {
        let tokens = self.access.keys().chain(self.refresh.keys());
        tokens.cloned().collect()
    }

    /// Whose refresh token this is or was.
    pub fn owner_of_refresh(&self, token: &str) -> Option<Name> {
        self.refresh.get(token).cloned()
    }

    /// Whose access token this is or was.
    pub fn owner_of_access(&self, token: &str) -> Option<Name> {
        self.access.get(token).map(|access| access.owner.clone())
    }

    pub fn check_bearer(&self, token: &str, now: DateTime<Utc>) -> Result<Name, Refused> {
        let access = self.access.get(token).ok_or(Refused::Unknown)?;
        let revoked = self
            .owners
            .get(&access.owner)
            .is_none_or(|owner| owner.revoked);
        if revoked {
            Err(Refused::Unknown)
        } else if access.expires_at <= now {
            Err(Refused::Expired)
        } else {
            Ok(access.owner.clone())
        }
    }

    pub fn account(&self, name: &str) -> Option<Account> {
        let owner = self.owners.get(name)?;
        Some(Account {
            provider: self.provider,
            name: name.into(),
            refresh_token: owner.refresh_token.clone(),
            access_token: owner.access_token.clone(),
            expires_at: self.access.get(&owner.access_token)?.expires_at,
        })
    }

    pub fn expire(&mut self, name: &str, now: DateTime<Utc>) {
        for access in self
            .access
            .values_mut()
            .filter(|access| &*access.owner == name)
        {
            access.expires_at = access.expires_at.min(now);
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub google: Side,
    pub zoom: Side,
    pub events: HashMap<(Name, String), Event>,
    pub meetings: BTreeMap<u64, ZoomMeeting>,
    /// Zoom: the numbers of an account's meetings in the order of creation, for the list.
    pub by_owner: HashMap<Name, BTreeMap<u64, u64>>,
    pub daily_limit: Option<u32>,
    pub conference: crate::types::Conference,
    serial: u64,
}

impl World {
    pub fn new(options: &Options) -> World {
        World {
            google: Side::new(Provider::Google),
            zoom: Side::new(Provider::Zoom),
            events: HashMap::new(),
            meetings: BTreeMap::new(),
            by_owner: HashMap::new(),
            daily_limit: options.zoom_daily_limit,
            conference: options.conference,
            serial: 0,
        }
    }

    pub fn side(&self, provider: Provider) -> &Side {
        match provider {
            Provider::Google => &self.google,
            Provider::Zoom => &self.zoom,
        }
    }

    pub fn side_mut(&mut self, provider: Provider) -> &mut Side {
        match provider {
            Provider::Google => &mut self.google,
            Provider::Zoom => &mut self.zoom,
        }
    }

    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Everything a provider holds or held, oldest first.
    pub fn all(&self, provider: Provider, clock: &Clock) -> Vec<Meeting> {
        let now = clock.now_ns();
        let mut all: Vec<Meeting> = match provider {
            Provider::Google => {
                let events = self.events.iter();
                events
                    .map(|((owner, id), event)| event.report(owner, id, now, clock))
                    .collect()
            }
            Provider::Zoom => self
                .meetings
                .values()
                .map(|meeting| meeting.report(clock))
                .collect(),
        };
        all.sort_by_key(|meeting| meeting.created_at.mono_ns);
        all
    }
}
