//! Asks two name servers the same, and says where they differ.
//!
//! # What it does
//! It draws a [zone](zone::Zone) from a seed, with everything that a zone may have, starts [servers] on it, and asks both
//! questions drawn from another seed: for names that are there, that are not, that a wildcard makes up, that are elsewhere.
//!
//! # What it promises
//! Two answers are the same if rcode, AA, TC, and the records of all sections are, TTLs included. What an RFC leaves to the
//! server is a [rule](rules::Rule) with its section, and counted. An answer that breaks what all servers keep to, in its
//! header, question, size or EDNS, counts as a difference, whoever gave it.
//!
//! # How it works
//! ```text
//!   zone, question   pure: drawn from a seed         servers   NSD, Knot, KUBE, on free ports
//!   name, message    pure: from and to the wire      asking    one question, one sound answer
//!   rules            pure: what is allowed           compare   two servers
//! ```
//!
//! # What a person can set
//! See `kube-dns-compare --help`.
//!
//! # What it deliberately does not do
//! It shares no code with the server: what both misread would be the same.
pub mod asking;
pub mod compare;
pub mod message;
pub mod name;
pub mod question;
pub mod rtype;
pub mod rules;
pub mod servers;
pub mod zone;
