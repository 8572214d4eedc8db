//! Boots a kernel, and a root image if there is one, with the console on standard output:
//! `cargo run -p calve-vmm --example boot -- vmlinux [root.erofs]`

use std::fs::File;

use calve_vmm::{Access, Attachments, Boot, Disk, Hypervisor, Shape, Shell, VsockHost};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let kernel = File::open(args.next().ok_or("usage: boot KERNEL [ROOT]")?)?;
    let root = args.next().map(File::open).transpose()?;
    let disks: Vec<_> = root
        .into_iter()
        .map(|file| Disk { file, access: Access::ReadOnly, id: "root".into(), room: 0 })
        .collect();

    let hypervisor = Hypervisor::open()?;
    let shape = Shape::new(128, 1, u8::try_from(disks.len())?)?;
    let shell = Shell::new(&hypervisor, shape)?;
    let console = Some(Box::new(std::io::stdout()) as _);
    let devices = Attachments { disks, vsock: VsockHost::unconnected(3), console };
    let cmdline = "console=ttyS0 reboot=t panic=-1 root=/dev/vda ro".into();
    let boot = Boot { kernel, initrd: None, cmdline };
    let mut machine = shell.boot(boot, devices)?;
    machine.resume()?;
    println!("the guest ended: {:?}", machine.wait());
    Ok(())
}
