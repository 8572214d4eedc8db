//! Names of CPUID's feature bits, as `/proc/cpuinfo` spells them (Linux
//! `arch/x86/include/asm/cpufeatures.h`; Intel SDM vol. 2, CPUID; AMD APM vol. 3, appendix E).

/// A register whose bits are features.
pub(super) struct Register {
    /// CPUID function (EAX).
    pub(super) function: u32,
    /// CPUID index (ECX).
    pub(super) index: u32,
    /// 0 to 3 for EAX to EDX of the answer.
    pub(super) register: usize,
    /// Names by bit.
    pub(super) bits: &'static [(u8, &'static str)],
    /// Whether bits without a name are no features: leaf 0x8000_0001 repeats leaf 1 on AMD.
    pub(super) only_named: bool,
}

impl Register {
    /// What a bit without a name is called.
    pub(super) fn place(&self, bit: u8) -> String {
        let register = ["eax", "ebx", "ecx", "edx"].get(self.register).unwrap_or(&"");
        format!("cpuid:{:x}.{}.{register}.{bit}", self.function, self.index)
    }
}

/// Bits that say nothing of the processor: they follow what the guest does (`osxsave`, `ospke`),
/// the topology that the machine was given (`ht`, `cmp_legacy`), or what every KVM of this century
/// can do in software and reports otherwise (`hypervisor`, `tsc_deadline_timer`).
pub(super) const IGNORED: &[&str] =
    &["osxsave", "ospke", "ht", "cmp_legacy", "hypervisor", "tsc_deadline_timer"];

/// All registers that count.
pub(super) const REGISTERS: &[Register] = &[
    Register { function: 0x1, index: 0, register: 2, bits: LEAF_1_ECX, only_named: false },
    Register { function: 0x1, index: 0, register: 3, bits: LEAF_1_EDX, only_named: false },
    Register { function: 0x7, index: 0, register: 1, bits: LEAF_7_EBX, only_named: false },
    Register { function: 0x7, index: 0, register: 2, bits: LEAF_7_ECX, only_named: false },
    Register { function: 0x7, index: 0, register: 3, bits: LEAF_7_EDX, only_named: false },
    Register { function: 0x7, index: 1, register: 0, bits: LEAF_7_1_EAX, only_named: false },
    Register { function: 0xd, index: 0, register: 0, bits: XCR0, only_named: false },
    Register { function: 0xd, index: 1, register: 0, bits: LEAF_D_1_EAX, only_named: false },
    Register { function: 0x8000_0001, index: 0, register: 2, bits: EXT_1_ECX, only_named: false },
    Register { function: 0x8000_0001, index: 0, register: 3, bits: EXT_1_EDX, only_named: true },
    Register { function: 0x8000_0008, index: 0, register: 1, bits: EXT_8_EBX, only_named: false },
];

#[rustfmt::skip]
const LEAF_1_ECX: &[(u8, &str)] = &[
    (0, "pni"), (1, "pclmulqdq"), (2, "dtes64"), (3, "monitor"), (4, "ds_cpl"), (5, "vmx"),
    (6, "smx"), (7, "est"), (8, "tm2"), (9, "ssse3"), (10, "cid"), (11, "sdbg"), (12, "fma"),
    (13, "cx16"), (14, "xtpr"), (15, "pdcm"), (17, "pcid"), (18, "dca"), (19, "sse4_1"),
    (20, "sse4_2"), (21, "x2apic"), (22, "movbe"), (23, "popcnt"), (24, "tsc_deadline_timer"),
    (25, "aes"), (26, "xsave"), (27, "osxsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"),
    (31, "hypervisor"),
];

#[rustfmt::skip]
const LEAF_1_EDX: &[(u8, &str)] = &[
    (0, "fpu"), (1, "vme"), (2, "de"), (3, "pse"), (4, "tsc"), (5, "msr"), (6, "pae"), (7, "mce"),
    (8, "cx8"), (9, "apic"), (11, "sep"), (12, "mtrr"), (13, "pge"), (14, "mca"), (15, "cmov"),
    (16, "pat"), (17, "pse36"), (18, "pn"), (19, "clflush"), (21, "dts"), (22, "acpi"), (23, "mmx"),
    (24, "fxsr"), (25, "sse"), (26, "sse2"), (27, "ss"), (28, "ht"), (29, "tm"), (30, "ia64"),
    (31, "pbe"),
];

#[rustfmt::skip]
const LEAF_7_EBX: &[(u8, &str)] = &[
    (0, "fsgsbase"), (1, "tsc_adjust"), (2, "sgx"), (3, "bmi1"), (4, "hle"), (5, "avx2"),
    (6, "fdp_excptn_only"), (7, "smep"), (8, "bmi2"), (9, "erms"), (10, "invpcid"), (11, "rtm"),
    (12, "cqm"), (13, "zero_fcs_fds"), (14, "mpx"), (15, "rdt_a"), (16, "avx512f"),
    (17, "avx512dq"), (18, "rdseed"), (19, "adx"), (20, "smap"), (21, "avx512ifma"),
    (23, "clflushopt"), (24, "clwb"), (25, "intel_pt"), (26, "avx512pf"), (27, "avx512er"),
    (28, "avx512cd"), (29, "sha_ni"), (30, "avx512bw"), (31, "avx512vl"),
];

#[rustfmt::skip]
const LEAF_7_ECX: &[(u8, &str)] = &[
    (1, "avx512vbmi"), (2, "umip"), (3, "pku"), (4, "ospke"), (5, "waitpkg"), (6, "avx512_vbmi2"),
    (7, "shstk"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (11, "avx512_vnni"),
    (12, "avx512_bitalg"), (13, "tme"), (14, "avx512_vpopcntdq"), (16, "la57"), (22, "rdpid"),
    (24, "bus_lock_detect"), (25, "cldemote"), (27, "movdiri"), (28, "movdir64b"), (29, "enqcmd"),
    (30, "sgx_lc"), (31, "pks"),
];

#[rustfmt::skip]
const LEAF_7_EDX: &[(u8, &str)] = &[
    (2, "avx512_4vnniw"), (3, "avx512_4fmaps"), (4, "fsrm"), (5, "uintr"),
    (8, "avx512_vp2intersect"), (9, "srbds_ctrl"), (10, "md_clear"), (11, "rtm_always_abort"),
    (13, "tsx_force_abort"), (14, "serialize"), (15, "hybrid"), (16, "tsxldtrk"), (18, "pconfig"),
    (19, "arch_lbr"), (20, "ibt"), (22, "amx_bf16"), (23, "avx512_fp16"), (24, "amx_tile"),
    (25, "amx_int8"), (26, "spec_ctrl"), (27, "intel_stibp"), (28, "flush_l1d"),
    (29, "arch_capabilities"), (30, "core_capabilities"), (31, "spec_ctrl_ssbd"),
];

#[rustfmt::skip]
const LEAF_7_1_EAX: &[(u8, &str)] = &[
    (4, "avx_vnni"), (5, "avx512_bf16"), (7, "cmpccxadd"), (8, "archperfmonext"), (10, "fzrm"),
    (11, "fsrs"), (12, "fsrc"), (17, "fred"), (18, "lkgs"), (19, "wrmsrns"), (21, "amx_fp16"),
    (23, "avx_ifma"), (26, "lam"),
];

#[rustfmt::skip]
const XCR0: &[(u8, &str)] = &[
    (0, "xcr0_x87"), (1, "xcr0_sse"), (2, "xcr0_avx"), (3, "xcr0_bndregs"), (4, "xcr0_bndcsr"),
    (5, "xcr0_opmask"), (6, "xcr0_zmm_hi256"), (7, "xcr0_hi16_zmm"), (9, "xcr0_pkru"),
    (17, "xcr0_tilecfg"), (18, "xcr0_tiledata"),
];

#[rustfmt::skip]
const LEAF_D_1_EAX: &[(u8, &str)] = &[
    (0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1"), (3, "xsaves"), (4, "xfd"),
];

#[rustfmt::skip]
const EXT_1_ECX: &[(u8, &str)] = &[
    (0, "lahf_lm"), (1, "cmp_legacy"), (2, "svm"), (3, "extapic"), (4, "cr8_legacy"), (5, "abm"),
    (6, "sse4a"), (7, "misalignsse"), (8, "3dnowprefetch"), (9, "osvw"), (10, "ibs"), (11, "xop"),
    (12, "skinit"), (13, "wdt"), (15, "lwp"), (16, "fma4"), (17, "tce"), (19, "nodeid_msr"),
    (21, "tbm"), (22, "topoext"), (23, "perfctr_core"), (24, "perfctr_nb"), (26, "bpext"),
    (27, "ptsc"), (28, "perfctr_llc"), (29, "mwaitx"),
];

#[rustfmt::skip]
const EXT_1_EDX: &[(u8, &str)] = &[
    (11, "syscall"), (19, "mp"), (20, "nx"), (22, "mmxext"), (25, "fxsr_opt"), (26, "pdpe1gb"),
    (27, "rdtscp"), (29, "lm"), (30, "3dnowext"), (31, "3dnow"),
];

#[rustfmt::skip]
const EXT_8_EBX: &[(u8, &str)] = &[
    (0, "clzero"), (1, "irperf"), (2, "xsaveerptr"), (4, "rdpru"), (9, "wbnoinvd"), (12, "ibpb"),
    (14, "ibrs"), (15, "stibp"), (17, "stibp_always_on"), (23, "amd_ppin"), (24, "ssbd"),
    (25, "virt_ssbd"), (26, "amd_ssb_no"), (27, "cppc"), (29, "btc_no"), (31, "brs"),
];
