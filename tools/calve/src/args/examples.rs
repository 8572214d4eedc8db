//! The examples under each `--help`.

mod host;

pub(super) use host::{
    EVENT, FUNCTION, FUNCTION_CREATE, FUNCTION_LOGS, FUNCTION_UPDATE, INVOKE, KEY, LAYER, TOP,
};

/// `calve --help`.
pub(super) const CALVE: &str = "\
Examples:
  calve doctor
  calve snapshot build --runtime python3.11 --code ./resize --handler app.handler resize
  calve run resize --event '{\"width\": 640}'

Results go to stdout, everything else to stderr. Exit status: 0 done; 1 the function failed;
2 bad usage or input; 3 this host cannot; 4 the machine failed or timed out; 130 interrupted.";

/// `calve doctor --help`.
pub(super) const DOCTOR: &str = "\
Examples:
  calve doctor
  calve doctor --json | jq '.checks[] | select(.status != \"ok\")'

Exit status 0 if machines can run here, 3 if not.";

/// `calve image --help`.
pub(super) const IMAGE: &str = "\
Examples:
  calve image build                       the kernel and every root image
  calve image build python3.11            the kernel and one root image
  calve image ls

Images are built from Debian's packages, once, into $CALVE_CACHE (or ~/.cache/calve).
`calve snapshot build` builds what it needs by itself.";

/// `calve snapshot --help`.
pub(super) const SNAPSHOT: &str = "\
Examples:
  calve snapshot build --runtime node20 --code ./greet --handler index.handler greet
  calve snapshot ls
  calve snapshot inspect greet | jq .manifest.machine
  calve snapshot verify greet
  calve snapshot rm greet";

/// `calve snapshot sign --help`.
pub(super) const SIGN: &str = "\
Examples:
  openssl genpkey -algorithm ed25519 -out signing.pem
  openssl pkey -in signing.pem -pubout -out trusted.pem
  calve snapshot sign greet --key signing.pem
  calve run greet --event '{}' --trusted-keys trusted.pem

Prints the snapshot's id. A signature is of the snapshot under this name; it goes with the name, and
does not outlive a new build of it. A host that is to refuse all others sets CALVE_TRUSTED_KEYS.";

/// `calve snapshot build --help`.
pub(super) const BUILD: &str = "\
Examples:
  calve snapshot build --runtime python3.11 --code ./resize --handler app.handler resize
  calve snapshot build --runtime node20 --code ./greet --handler index.handler \\
      --memory 512 --env STAGE=test --warm '{\"name\": \"Ada\"}' greet
  calve snapshot build --runtime provided --code ./out --timeout 10 worker
  calve snapshot build --runtime python3.11 --code ./resize --layer ./common --layer numpy.zip \\
      --handler app.handler resize

Prints the snapshot's id. What the function prints on its way goes to stderr. If its start or a
warm call fails, the error is printed as JSON, nothing is kept, and the exit status is 1.";

/// `calve run --help`.
pub(super) const RUN: &str = "\
Examples:
  calve run resize --event '{\"width\": 640}'
  calve run resize --event @event.json --count 30 --parallel 4 --json
  jq -c '.[]' events.json | calve run resize --events -
  calve run resize --event '{}' --cold --json

Prints the function's result as JSON, one line a call, in the order of the calls; what the function
prints goes to stderr. If the function fails, its line is {\"errorType\", \"errorMessage\",
\"stackTrace\"} and the exit status is 1; if the machine fails or a deadline passes it is 4.
With --json each line is {\"result\", \"error\", \"machine\", \"thaw_us\", \"first_output_us\",
\"private_kib\"}, where exactly one of result and error is meaningful: error is null after a success.";

/// `calve fork --help`.
pub(super) const FORK: &str = "\
Examples:
  calve fork search --before '{\"load\": \"index-7\"}' --event '{\"query\": \"ice\"}'
  calve fork search --before @load.json --event '{\"query\": \"ice\"}' --count 10 --parallel 2 --json

A parent is thawed and called with each --before in turn; its results are thrown away. Then it is
forked, in memory alone, and every further call goes to a child that goes on from there. Prints what
`calve run` prints. If a --before fails in the function, its error is printed as JSON, nothing else
is called, and the exit status is 1.";

/// `calve boot --help`.
pub(super) const BOOT: &str = "\
Examples:
  calve boot --kernel vmlinux --root root.erofs
  calve boot --kernel bzImage --initrd initrd.cpio --memory 1024 --vcpus 2
  calve boot --kernel vmlinux --root disk.img --writable --cmdline 'console=ttyS0 root=/dev/vda rw'

On a terminal the keyboard belongs to the guest: Ctrl-A x ends the machine, Ctrl-A Ctrl-A sends
Ctrl-A. The command ends with status 0 when the guest powers off or reboots.";

/// `calve completions --help`.
pub(super) const COMPLETIONS: &str = "\
Examples:
  calve completions bash > /etc/bash_completion.d/calve
  calve completions zsh > ~/.zfunc/_calve
  calve completions fish > ~/.config/fish/completions/calve.fish";

/// `calve serve --help`.
pub(super) const SERVE: &str = "\
Examples:
  calve key create --data /var/lib/calve --tenant me --json
  calve serve --listen 127.0.0.1:9470 --data /var/lib/calve
  aws lambda list-functions --endpoint-url http://127.0.0.1:9470 --region us-east-1

Ready when GET /healthz answers 200. The first start prints a root key if none was made before; with
--first-key it leaves it in a file. SIGTERM ends it once the calls under way are done. RUST_LOG says how much is logged, such as `calve_manager=debug`.";
