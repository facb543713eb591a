//! Where notifications go besides the application's own table: the operator's URL and mail server.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::domain::notice::Channel;
use crate::domain::webhook::WebhookSecrets;
use crate::keyfile;
use crate::mail::Mailer;

/// A letter may take longer than a request: mail servers make one wait on purpose.
const MAIL_PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP receiver.
#[derive(Clone)]
pub struct Webhook {
    /// Where it is.
    pub url: String,
    /// What signs.
    pub secrets: Arc<WebhookSecrets>,
}

/// A mail server.
#[derive(Clone)]
pub struct Mail {
    /// It.
    pub mailer: Arc<Mailer>,
    /// Sender.
    pub from: String,
    /// Who gets what is for the operators.
    pub operator: Option<String>,
}

/// What is set up.
#[derive(Clone, Default)]
pub struct Outlets {
    /// The receiver.
    pub webhook: Option<Webhook>,
    /// The mail server.
    pub mail: Option<Mail>,
    /// The ways that the settings ask for, whether they can be used just now or not.
    pub wanted: Vec<Channel>,
}

impl Outlets {
    /// Reads what the settings point to; else the first thing that is wrong with it.
    pub fn read(settings: &Settings, roots: Option<&[u8]>) -> (Self, Option<String>) {
        let (webhook, first) = part(webhook(settings));
        let (mail, second) = part(mail(settings, roots));
        let ways = [
            (Channel::Webhook, settings.webhook_url.is_some()),
            (Channel::Mail, settings.smtp_file.is_some()),
        ];
        let wanted = ways
            .into_iter()
            .filter_map(|(way, wanted)| wanted.then_some(way));
        let outlets = Self {
            webhook,
            mail,
            wanted: wanted.collect(),
        };
        (outlets, first.or(second))
    }

    /// The ways on which a notification goes out; `own`: the application has a table of its own.
    pub fn channels(&self, own: bool) -> Vec<Channel> {
        let own = own.then_some(Channel::Application);
        own.into_iter().chain(self.wanted.iter().copied()).collect()
    }
}

fn part<T>(read: Result<Option<T>, String>) -> (Option<T>, Option<String>) {
    match read {
        Ok(part) => (part, None),
        Err(complaint) => (None, Some(complaint)),
    }
}

fn webhook(settings: &Settings) -> Result<Option<Webhook>, String> {
    let Some(url) = settings.webhook_url.clone() else {
        return Ok(None);
    };
    let complain = |why: String| format!("meetlink.webhook_secret_file cannot be used: {why}");
    let text = keyfile::private_text(settings.webhook_secret_file.as_deref())
        .map_err(|error| complain(error.to_string()))?;
    let secrets = WebhookSecrets::parse(&text).map_err(|error| complain(error.to_string()))?;
    Ok(Some(Webhook {
        url,
        secrets: Arc::new(secrets),
    }))
}

fn mail(settings: &Settings, roots: Option<&[u8]>) -> Result<Option<Mail>, String> {
    let Some(path) = settings.smtp_file.as_deref() else {
        return Ok(None);
    };
    let complain = |why: String| format!("meetlink.smtp_file cannot be used: {why}");
    let text = keyfile::private_text(Some(path)).map_err(|error| complain(error.to_string()))?;
    let mailer = Mailer::new(text.trim(), MAIL_PATIENCE, roots).map_err(complain)?;
    let Some(from) = settings.mail_from.clone() else {
        return Err("meetlink.mail_from is empty: letters need a sender".to_owned());
    };
    Ok(Some(Mail {
        mailer: Arc::new(mailer),
        from,
        operator: settings.mail_operator.clone(),
    }))
}
