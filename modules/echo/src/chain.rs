//! Bytes in one part or in several, of which the long ones are shared: a document that is sent is not copied for each peer.
use bytes::Bytes;

#[derive(Clone, Debug)]
pub(crate) enum Chain {
    /// In one part.
    One(Bytes),
    /// In several.
    Parts(Vec<Bytes>),
}

impl Chain {
    pub(crate) fn len(&self) -> usize {
        self.parts().iter().map(Bytes::len).sum()
    }

    pub(crate) fn parts(&self) -> &[Bytes] {
        match self {
            Self::One(bytes) => std::slice::from_ref(bytes),
            Self::Parts(parts) => parts,
        }
    }
}

impl From<Bytes> for Chain {
    fn from(bytes: Bytes) -> Self {
        Self::One(bytes)
    }
}
