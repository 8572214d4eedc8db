//! Virtio devices over the MMIO transport (VIRTIO 1.3, §4.2).
