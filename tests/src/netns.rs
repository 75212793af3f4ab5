//! Two regions and the coordinator in network namespaces of their own, and what a network does to them. Needs
//! root and iproute2; run by `just netns`. What proxies alone can do needs neither.

pub mod line;
pub mod scenes;
pub mod seen;
pub mod spaces;
pub mod stage;
pub mod writer;
