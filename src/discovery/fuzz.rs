//! What holds for any bytes that servers may send, for the fuzz targets.

/// Whatever a server of ZooKeeper sends is nodes and members, or ends the session.
pub fn zookeeper(bytes: &[u8]) {
    super::zookeeper::take_any(bytes);
}
