//! Authoritative DNS.
mod answer;
mod content;
mod cookie;
mod denial;
mod name;
mod query;
mod reply;
mod rrset;
mod rtype;
mod text;
mod zone;
