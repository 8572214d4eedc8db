//! A guest that interprets: a list of accesses to memory and ports, which a test puts together.

use calve_vmm::layout::RESET;

use crate::guest;

// Each step is 24 bytes: operation, then two 64-bit operands, in `rdx` and `rcx`.
guest!(
    interpreter,
    64,
    "lea rbp, [rip + 99f]",
    "mov rsi, rbp",
    "2: movzx eax, byte ptr [rsi]",
    "mov rdx, [rsi + 8]",
    "mov rcx, [rsi + 16]",
    "add rsi, 24",
    // Stores to address rdx.
    "cmp al, 0x04",
    "jne 3f",
    "mov [rdx], ecx",
    "jmp 2b",
    "3: cmp al, 0x01",
    "jne 3f",
    "mov [rdx], cl",
    "jmp 2b",
    "3: cmp al, 0x02",
    "jne 3f",
    "mov [rdx], cx",
    "jmp 2b",
    "3: cmp al, 0x08",
    "jne 3f",
    "mov [rdx], rcx",
    "jmp 2b",
    // Loads from address rdx; the value goes to address rcx.
    "3: cmp al, 0x14",
    "jne 3f",
    "mov eax, [rdx]",
    "mov [rcx], eax",
    "jmp 2b",
    "3: cmp al, 0x11",
    "jne 3f",
    "mov al, [rdx]",
    "mov [rcx], al",
    "jmp 2b",
    "3: cmp al, 0x12",
    "jne 3f",
    "mov ax, [rdx]",
    "mov [rcx], ax",
    "jmp 2b",
    "3: cmp al, 0x18",
    "jne 3f",
    "mov rax, [rdx]",
    "mov [rcx], rax",
    "jmp 2b",
    // Port rdx: out of rcx, in to nowhere, strings of rcx bytes.
    "3: cmp al, 0x21",
    "jne 3f",
    "mov eax, ecx",
    "out dx, al",
    "jmp 2b",
    "3: cmp al, 0x22",
    "jne 3f",
    "mov eax, ecx",
    "out dx, ax",
    "jmp 2b",
    "3: cmp al, 0x24",
    "jne 3f",
    "mov eax, ecx",
    "out dx, eax",
    "jmp 2b",
    "3: cmp al, 0x31",
    "jne 3f",
    "in al, dx",
    "jmp 2b",
    "3: cmp al, 0x32",
    "jne 3f",
    "in ax, dx",
    "jmp 2b",
    "3: cmp al, 0x34",
    "jne 3f",
    "in eax, dx",
    "jmp 2b",
    "3: cmp al, 0x41",
    "jne 3f",
    "mov rbx, rsi",
    "mov esi, 0x180000",
    "rep outsb",
    "mov rsi, rbx",
    "jmp 2b",
    "3: cmp al, 0x42",
    "jne 3f",
    "mov edi, 0x180000",
    "rep insb",
    "jmp 2b",
    // Goes on at step rcx (in bytes).
    "3: cmp al, 0x50",
    "jne 3f",
    "lea rsi, [rbp + rcx]",
    "jmp 2b",
    // Waits until any bit of ecx is set in the 32 bits at rdx.
    "3: cmp al, 0x51",
    "jne 3f",
    "4: test [rdx], ecx",
    "jz 4b",
    "jmp 2b",
    // Waits until the 16 bits at rdx are cx.
    "3: cmp al, 0x52",
    "jne 3f",
    "4: cmp [rdx], cx",
    "jne 4b",
    "jmp 2b",
    // Adds ecx to the 32 bits at rdx.
    "3: cmp al, 0x53",
    "jne 3f",
    "add [rdx], ecx",
    "jmp 2b",
    // Goes on at step rcx while the 32 bits at rdx are zero.
    "3: cmp al, 0x55",
    "jne 3f",
    "cmp dword ptr [rdx], 0",
    "jne 2b",
    "lea rsi, [rbp + rcx]",
    "jmp 2b",
    // Stands still.
    "3: cmp al, 0x54",
    "jne 3f",
    "4: hlt",
    "jmp 4b",
    // No such instruction, and nothing that handles it.
    "3: ud2",
    "99:"
);

/// How wide an access is, in bytes.
pub(crate) type Width = u8;
/// All that a processor has.
pub(crate) const WIDTHS: [Width; 4] = [1, 2, 4, 8];

/// What the guest is to do, step by step.
#[derive(Clone, Default)]
pub(crate) struct Script(Vec<u8>);

impl Script {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn step(mut self, op: u8, rdx: u64, rcx: u64) -> Self {
        self.0.extend(u64::from(op).to_le_bytes());
        self.0.extend(rdx.to_le_bytes());
        self.0.extend(rcx.to_le_bytes());
        self
    }

    /// Stores `width` bytes of a value.
    pub(crate) fn store(self, width: Width, at: u64, value: u64) -> Self {
        self.step(width, at, value)
    }

    /// Stores 32 bits.
    pub(crate) fn write(self, at: u64, value: u32) -> Self {
        self.store(4, at, value.into())
    }

    /// Loads `width` bytes, and stores them somewhere else.
    pub(crate) fn load(self, width: Width, from: u64, to: u64) -> Self {
        self.step(0x10 | width, from, to)
    }

    /// `out`, 1, 2 or 4 bytes wide.
    pub(crate) fn output(self, width: Width, port: u16, value: u32) -> Self {
        self.step(0x20 | width, port.into(), value.into())
    }

    /// `in`, 1, 2 or 4 bytes wide.
    pub(crate) fn input(self, width: Width, port: u16) -> Self {
        self.step(0x30 | width, port.into(), 0)
    }

    /// `rep outsb` of the bytes from 0x180000 on.
    pub(crate) fn output_string(self, port: u16, count: u64) -> Self {
        self.step(0x41, port.into(), count)
    }

    /// `rep insb` to 0x180000 and on.
    pub(crate) fn input_string(self, port: u16, count: u64) -> Self {
        self.step(0x42, port.into(), count)
    }

    /// Waits until one of these bits is set in a word.
    pub(crate) fn wait_for(self, at: u64, bits: u32) -> Self {
        self.step(0x51, at, bits.into())
    }

    /// Waits until 16 bits have a value.
    pub(crate) fn wait_until(self, at: u64, value: u16) -> Self {
        self.step(0x52, at, value.into())
    }

    /// Adds to a word in memory.
    pub(crate) fn add(self, at: u64, what: u32) -> Self {
        self.step(0x53, at, what.into())
    }

    /// Where the next step will be, for [`Script::repeat_from`].
    pub(crate) fn here(&self) -> usize {
        self.0.len()
    }

    /// Goes on at an earlier step, for ever.
    pub(crate) fn repeat_from(self, step: usize) -> Self {
        self.step(0x50, 0, step as u64)
    }

    /// Goes on at an earlier step until a word in memory is not zero.
    pub(crate) fn repeat_until(self, at: u64, step: usize) -> Self {
        self.step(0x55, at, step as u64)
    }

    /// Does nothing more.
    pub(crate) fn halt(self) -> Self {
        self.step(0x54, 0, 0)
    }

    /// Resets the machine: a guest that comes to this has survived itself.
    pub(crate) fn reset(self) -> Self {
        self.output(1, RESET, 1)
    }

    /// Dies of a triple fault.
    pub(crate) fn die(self) -> Self {
        self.step(0xff, 0, 0)
    }

    /// The guest: interpreter and script.
    pub(crate) fn code(&self) -> Vec<u8> {
        [interpreter(), &self.0].concat()
    }
}
