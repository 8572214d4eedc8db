//! Every seed holds, so that a broken target is found without libFuzzer.

macro_rules! seeds_hold {
    ($($module:ident),* $(,)?) => {
        $(
            #[test]
            fn $module() {
                let seeds = crate::$module::seeds();
                assert!(!seeds.is_empty());
                for (name, bytes) in seeds {
                    println!("{name}");
                    crate::$module::fuzz(&bytes);
                }
                crate::$module::fuzz(&[]);
                crate::$module::fuzz(&[0xff; 300]);
            }
        )*
    };
}

seeds_hold!(
    mmio_registers,
    block_chains,
    vsock_chains,
    vsock_packets,
    balloon_chains,
    host_session,
    agent_frames,
    agent_http,
    agent_shim,
    snapshot_state,
    snapshot_manifest,
    kernel_image,
    worker_reports,
);
