//! Where most happens, as `GET /api/top` and `fanfare top` have it: what the rows are, and by which of their columns they are sorted.

use clap::ValueEnum;
use serde::Deserialize;

use crate::config::section::listed;

/// What the rows are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum By {
    /// Topics
    #[default]
    Topics,
    /// Users
    Users,
    /// IP addresses
    Addresses,
    /// Channels
    Channels,
}

/// What is told of each. All but the name are numbers, of which the highest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Column {
    /// The name, by the alphabet
    Name,
    /// Members
    Members,
    /// Topics with members
    Topics,
    /// Sockets
    Sockets,
    /// Messages published a second
    Published,
    /// Messages delivered a second
    Delivered,
    /// Bytes delivered a second
    Bytes,
    /// Messages received a second
    Received,
    /// Bytes that wait for slow readers
    Waiting,
}

impl By {
    /// As the HTTP API calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Topics => "topics",
            Self::Users => "users",
            Self::Addresses => "addresses",
            Self::Channels => "channels",
        }
    }

    /// What is told of them, from left to right.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Topics => &[Column::Name, Column::Members, Column::Published, Column::Delivered, Column::Bytes],
            Self::Channels => &[Column::Name, Column::Topics, Column::Members, Column::Delivered],
            Self::Users | Self::Addresses => &[Column::Name, Column::Sockets, Column::Received, Column::Waiting],
        }
    }

    /// By what they are sorted if nothing else is asked for.
    pub(crate) fn column(self) -> Column {
        match self {
            Self::Topics | Self::Channels => Column::Delivered,
            Self::Users | Self::Addresses => Column::Received,
        }
    }

    /// The column that is asked for.
    ///
    /// # Errors
    /// These rows do not have it.
    pub(crate) fn checked(self, column: Option<Column>) -> Result<Column, String> {
        let column = column.unwrap_or(self.column());
        if self.columns().contains(&column) {
            return Ok(column);
        }
        let (by, names) = (self.name(), listed(self.columns().iter().map(|column| column.name())));
        Err(format!("{by} are not sorted by {}: they have {names}", column.name()))
    }
}

impl Column {
    /// As it is asked for.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Members => "members",
            Self::Topics => "topics",
            Self::Sockets => "sockets",
            Self::Published => "published",
            Self::Delivered => "delivered",
            Self::Bytes => "bytes",
            Self::Received => "received",
            Self::Waiting => "waiting",
        }
    }

    /// The member of an answer's rows.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Published => "published_per_s",
            Self::Delivered => "delivered_per_s",
            Self::Bytes => "bytes_per_s",
            Self::Received => "received_per_s",
            Self::Waiting => "waiting_bytes",
            other => other.name(),
        }
    }

    /// What stands above it in a table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Members => "MEMBERS",
            Self::Topics => "TOPICS",
            Self::Sockets => "SOCKETS",
            Self::Published => "IN/S",
            Self::Delivered => "OUT/S",
            Self::Bytes => "BYTES/S",
            Self::Received => "RECEIVED/S",
            Self::Waiting => "WAITING",
        }
    }
}
