//! Settings, and a plain copy of them that threads may hold.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

use crate::domain::backoff::Policy;
use crate::domain::keyring::KeyRing;
use crate::keyfile::{self, KeyFileError};
use crate::pg::guc;
use crate::provider::Endpoints;
use crate::provider::url::check_url;

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEY_COMMAND: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static CA_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static WEBHOOK_URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static WEBHOOK_SECRET_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static SMTP_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static MAIL_FROM: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static MAIL_OPERATOR: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static KEEP_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(90 * 1_440);
static KEEP_NOTIFICATIONS: GucSetting<i32> = GucSetting::<i32>::new(90 * 1_440);
static CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(32);
static REQUEST_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);
static MAX_ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(10);
static BACKOFF_BASE: GucSetting<i32> = GucSetting::<i32>::new(2_000);
static BACKOFF_MAX: GucSetting<i32> = GucSetting::<i32>::new(900_000);
static SETTLE_TIME: GucSetting<i32> = GucSetting::<i32>::new(30_000);

const GOOGLE_TOKEN_URL: &std::ffi::CStr = c"https://oauth2.googleapis.com/token";
const GOOGLE_API_URL: &std::ffi::CStr = c"https://www.googleapis.com/calendar/v3";
const ZOOM_TOKEN_URL: &std::ffi::CStr = c"https://zoom.us/oauth/token";
const ZOOM_API_URL: &std::ffi::CStr = c"https://api.zoom.us/v2";

type Text = GucSetting<Option<CString>>;
static GOOGLE_TOKEN: Text = Text::new(Some(GOOGLE_TOKEN_URL));
static GOOGLE_API: Text = Text::new(Some(GOOGLE_API_URL));
static ZOOM_TOKEN: Text = Text::new(Some(ZOOM_TOKEN_URL));
static ZOOM_API: Text = Text::new(Some(ZOOM_API_URL));

/// Defines every setting. Called from `_PG_init`.
pub fn define() {
    GucRegistry::define_bool_guc(
        c"meetlink.enabled",
        c"Whether meeting links are created.",
        c"Off: sessions are still queued, and nothing calls a provider.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    for (name, short, long, setting) in [
        (
            c"meetlink.key_file",
            c"File with the keys that encrypt tokens.",
            c"Lines of a key id and 64 hex digits; the first encrypts, all decrypt.",
            &KEY_FILE,
        ),
        (
            c"meetlink.key_command",
            c"Shell command that prints what a key file would hold.",
            c"Run by the worker when it starts and reloads, and by each function that encrypts.",
            &KEY_COMMAND,
        ),
        (
            c"meetlink.ca_file",
            c"File with further certificates to trust (PEM).",
            c"Needed only where calls to providers pass a gateway with a certificate of its own.",
            &CA_FILE,
        ),
        (
            c"meetlink.webhook_secret_file",
            c"File with the secrets that sign webhooks.",
            c"Lines of whsec_ and base64 (Standard Webhooks); each signs.",
            &WEBHOOK_SECRET_FILE,
        ),
        (
            c"meetlink.smtp_file",
            c"File with the URL of the mail server for notifications.",
            c"smtps://user:password@host:465, or smtp://host:587 (STARTTLS). Empty: no mail.",
            &SMTP_FILE,
        ),
        (
            c"meetlink.mail_from",
            c"Sender of the mails.",
            c"An address, or a name and an address in angle brackets.",
            &MAIL_FROM,
        ),
        (
            c"meetlink.mail_operator",
            c"Address that gets the mails for operators.",
            c"Empty: they get none.",
            &MAIL_OPERATOR,
        ),
    ] {
        GucRegistry::define_string_guc(
            name,
            short,
            long,
            setting,
            GucContext::Sighup,
            GucFlags::SUPERUSER_ONLY,
        );
    }
    GucRegistry::define_int_guc(
        c"meetlink.concurrency",
        c"Requests to providers at once, for each database.",
        c"Each takes a thread with a small stack while it is under way.",
        &CONCURRENCY,
        1,
        512,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"meetlink.max_attempts",
        c"Attempts before a session's link is given up.",
        c"Rate limits, lost answers and the operator's own troubles use up none.",
        &MAX_ATTEMPTS,
        1,
        1_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    for (name, short, setting) in [
        (
            c"meetlink.keep_attempts",
            c"How long the ledger of attempts is kept.",
            &KEEP_ATTEMPTS,
        ),
        (
            c"meetlink.keep_notifications",
            c"How long resolved notifications are kept.",
            &KEEP_NOTIFICATIONS,
        ),
    ] {
        GucRegistry::define_int_guc(
            name,
            short,
            c"The worker removes what is older, a little at a time. 0: never.",
            setting,
            0,
            i32::MAX,
            GucContext::Sighup,
            GucFlags::UNIT_MIN,
        );
    }
    define_durations();
    guc::define_url(
        c"meetlink.webhook_url",
        c"URL that gets each notification as a webhook.",
        c"https, or http on a loopback address. Empty: none.",
        &WEBHOOK_URL,
        check_url,
    );
    for (name, short, setting) in [
        (
            c"meetlink.google_token_url",
            c"Google's OAuth token endpoint.",
            &GOOGLE_TOKEN,
        ),
        (
            c"meetlink.google_api_url",
            c"Base of the Google Calendar API.",
            &GOOGLE_API,
        ),
        (
            c"meetlink.zoom_token_url",
            c"Zoom's OAuth token endpoint.",
            &ZOOM_TOKEN,
        ),
        (
            c"meetlink.zoom_api_url",
            c"Base of the Zoom API.",
            &ZOOM_API,
        ),
    ] {
        let long = c"https, or http on a loopback address.";
        guc::define_url(name, short, long, setting, check_url);
    }
    guc::reserve_prefix();
}

fn define_durations() {
    for (name, short, long, setting, least, most) in [
        (
            c"meetlink.request_timeout",
            c"Longest time for one request to a provider.",
            c"From the look-up of the name to the last byte of the answer.",
            &REQUEST_TIMEOUT,
            100,
            600_000,
        ),
        (
            c"meetlink.backoff_base",
            c"Upper bound of the wait after a first failure.",
            c"It doubles with each further failure; the wait is a random part of it.",
            &BACKOFF_BASE,
            10,
            86_400_000,
        ),
        (
            c"meetlink.backoff_max",
            c"Upper bound of every wait between attempts.",
            c"A wait that the provider asks for may be longer.",
            &BACKOFF_MAX,
            10,
            86_400_000,
        ),
        (
            c"meetlink.settle_time",
            c"How long a provider's list may lag behind what was created.",
            c"After a lost answer no second request is sent before this time has passed.",
            &SETTLE_TIME,
            100,
            3_600_000,
        ),
    ] {
        GucRegistry::define_int_guc(
            name,
            short,
            long,
            setting,
            least,
            most,
            GucContext::Sighup,
            GucFlags::UNIT_MS,
        );
    }
}

/// The settings of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `meetlink.enabled`
    pub enabled: bool,
    /// `meetlink.key_file`
    pub key_file: Option<String>,
    /// `meetlink.key_command`
    pub key_command: Option<String>,
    /// `meetlink.ca_file`
    pub ca_file: Option<String>,
    /// `meetlink.concurrency`
    pub concurrency: usize,
    /// `meetlink.request_timeout`
    pub request_timeout: Duration,
    /// Backoff and bound of attempts.
    pub policy: Policy,
    /// `meetlink.settle_time`
    pub settle: Duration,
    /// `meetlink.webhook_url`
    pub webhook_url: Option<String>,
    /// `meetlink.webhook_secret_file`
    pub webhook_secret_file: Option<String>,
    /// `meetlink.smtp_file`
    pub smtp_file: Option<String>,
    /// `meetlink.mail_from`
    pub mail_from: Option<String>,
    /// `meetlink.mail_operator`
    pub mail_operator: Option<String>,
    /// `meetlink.keep_attempts`, in minutes
    pub keep_attempts: i64,
    /// `meetlink.keep_notifications`, in minutes
    pub keep_notifications: i64,
    google: Endpoints,
    zoom: Endpoints,
}

impl Settings {
    /// Reads them. Main thread only.
    pub fn read() -> Self {
        Self {
            enabled: ENABLED.get(),
            key_file: text(&KEY_FILE),
            key_command: text(&KEY_COMMAND),
            ca_file: text(&CA_FILE),
            concurrency: usize::try_from(CONCURRENCY.get()).unwrap_or(1),
            request_timeout: milliseconds(&REQUEST_TIMEOUT),
            policy: Policy {
                base: milliseconds(&BACKOFF_BASE),
                max: milliseconds(&BACKOFF_MAX),
                max_attempts: u32::try_from(MAX_ATTEMPTS.get()).unwrap_or(1),
            },
            settle: milliseconds(&SETTLE_TIME),
            webhook_url: text(&WEBHOOK_URL),
            webhook_secret_file: text(&WEBHOOK_SECRET_FILE),
            smtp_file: text(&SMTP_FILE),
            mail_from: text(&MAIL_FROM),
            mail_operator: text(&MAIL_OPERATOR),
            keep_attempts: KEEP_ATTEMPTS.get().into(),
            keep_notifications: KEEP_NOTIFICATIONS.get().into(),
            google: endpoints(&GOOGLE_TOKEN, &GOOGLE_API),
            zoom: endpoints(&ZOOM_TOKEN, &ZOOM_API),
        }
    }

    /// The keys, from where these settings say; else the setting that is at fault, and why.
    pub fn keys(&self) -> Result<KeyRing, (&'static str, KeyFileError)> {
        keyfile::load(self.key_file.as_deref(), self.key_command.as_deref())
    }

    /// Where a provider is reached.
    pub fn endpoints(&self, provider: &str) -> Option<&Endpoints> {
        match provider {
            "google_meet" => Some(&self.google),
            "zoom" => Some(&self.zoom),
            _ => None,
        }
    }
}

fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    let text = setting.get()?.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

fn milliseconds(setting: &GucSetting<i32>) -> Duration {
    Duration::from_millis(u64::try_from(setting.get()).unwrap_or(0))
}

fn endpoints(token: &GucSetting<Option<CString>>, api: &GucSetting<Option<CString>>) -> Endpoints {
    Endpoints {
        token_url: text(token).unwrap_or_default(),
        api_url: text(api).unwrap_or_default(),
    }
}
