//! What a worker does, and why it left, as numbers for shared memory.

/// What the worker of a database is doing; shown in `meetlink.workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Activity {
    /// No worker, and none is wanted.
    Absent = 0,
    /// The launcher is starting one.
    Starting = 1,
    /// Asleep until the next wake or due time.
    Idle = 2,
    /// At work.
    Busy = 3,
    /// Waits for something outside it; the note says what.
    Waiting = 4,
    /// Switched off by `meetlink.enabled`.
    Disabled = 5,
    /// Died; will be started again.
    Restarting = 6,
    /// Let go of the database by `meetlink_pause()`.
    Paused = 7,
}

impl Activity {
    /// Name in `meetlink.workers`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Disabled => "disabled",
            Self::Restarting => "restarting",
            Self::Paused => "paused",
        }
    }

    /// From the number; an unknown one means none.
    pub fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Starting,
            2 => Self::Idle,
            3 => Self::Busy,
            4 => Self::Waiting,
            5 => Self::Disabled,
            6 => Self::Restarting,
            7 => Self::Paused,
            _ => Self::Absent,
        }
    }
}

/// Why a worker left, so that the launcher knows whether to start another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Farewell {
    /// It did not say: it died.
    None = 0,
    /// The extension is not in this database.
    NotWanted = 1,
    /// `meetlink_pause()` holds: no booking may bring a worker back.
    Paused = 2,
}
