//! Boots a kernel with its console on standard output:
//! `cargo run -p calve-vmm --example boot -- vmlinux [cmdline]`

use std::fs::File;

use calve_vmm::{Attachments, Boot, Hypervisor, Shape, Shell, VsockHost};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let kernel = File::open(args.next().ok_or("usage: boot KERNEL [CMDLINE]")?)?;
    let cmdline = args.next().unwrap_or("console=ttyS0 reboot=t panic=-1".into());

    let hypervisor = Hypervisor::open()?;
    let shell = Shell::new(&hypervisor, Shape::new(128, 1, 0)?)?;
    let console = Some(Box::new(std::io::stdout()) as _);
    let devices = Attachments { disks: vec![], vsock: VsockHost::unconnected(3), console };
    let boot = Boot { kernel, initrd: None, cmdline };
    let mut machine = shell.boot(&hypervisor, boot, devices)?;
    machine.resume()?;
    println!("the guest ended: {:?}", machine.wait());
    Ok(())
}
