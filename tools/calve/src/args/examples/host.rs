//! The examples of the commands around a function host.

/// `calve key --help`.
pub(in crate::args) const KEY: &str = "\
Examples:
  calve key create --data /var/lib/calve --tenant acme
  calve key create --data /var/lib/calve --tenant ops --root --json
  calve key ls --data /var/lib/calve
  calve key rm --data /var/lib/calve AKIAABCDEFGHIJKLMNOP

Works on the function host's folder itself, whether the host runs or not. A secret is shown once,
when it is made: with --json as {\"access_key_id\", \"secret_access_key\"}. AWS clients take both as
they are; `calve function` takes them as CALVE_KEY=ID:SECRET. A running host knows a new key at once
and forgets a removed one within moments.";

/// `calve function --help`.
pub(in crate::args) const FUNCTION: &str = "\
Examples:
  export CALVE_KEY=ID:SECRET
  calve function create resize --code ./resize --runtime python3.11 --handler app.handler
  calve function invoke resize --event '{\"width\": 640}'
  calve function ls
  calve function get resize | jq .Configuration.State
  calve function rm resize

Talks to a function host, `calve serve`. Exit status: 0 done; 1 the function failed; 2 the host
refuses the request, such as for a name that it does not have; 3 the host cannot be reached; 4 the
host or the machine failed, or is too busy.";

/// `calve function create --help`.
pub(in crate::args) const FUNCTION_CREATE: &str = "\
Examples:
  calve function create resize --code ./resize --runtime python3.11 --handler app.handler
  calve function create greet --code greet.zip --runtime nodejs20.x --handler index.handler \\
      --memory 512 --timeout 10 --env STAGE=test
  calve function create worker --code ./out --runtime provided.al2023 --no-wait
  calve function create resize --code ./resize --runtime python3.11 --handler app.handler \\
      --layer arn:aws:lambda:us-east-1:123456789012:layer:numpy:3

A folder is sent as a zip file, with its links and with what of it is executable. Prints the
function's ARN once it can be called. If its start fails, the reason goes to stderr and the exit
status is 1; the function stays, to be updated or removed.";

/// `calve function update --help`.
pub(in crate::args) const FUNCTION_UPDATE: &str = "\
Examples:
  calve function update resize --code ./resize
  calve function update resize --memory 1024 --timeout 30 --env STAGE=live

Until what is new is ready, calls go to what was there before; so they do if its start fails. Where
both code and configuration change, the configuration goes first. Prints the function's ARN.";

/// `calve function invoke --help`.
pub(in crate::args) const INVOKE: &str = "\
Examples:
  calve function invoke resize --event '{\"width\": 640}'
  calve function invoke resize --qualifier live --event @event.json
  calve function invoke resize --event @event.json --async
  calve function invoke cart --event '{\"add\": 7}' --route customer-42
  calve function invoke pay --event @order.json --idempotency-key order-1093

Prints the function's result as JSON; the last of what the function has printed goes to stderr. If
the function fails, its error is printed as JSON and the exit status is 1. With --async it prints
the request's id; see `calve function logs` for what comes of it.";

/// `calve function logs --help`.
pub(in crate::args) const FUNCTION_LOGS: &str = "\
Examples:
  calve function logs resize
  calve function logs resize --json | jq -r 'select(.outcome != \"ok\").request'

Prints the calls that the host remembers, the newest last, and what the function printed. With
--json each line is an object with at least \"request\", \"version\", \"started_ms\", \"took_ms\",
\"outcome\" and \"logs\".";

/// `calve layer --help`.
pub(in crate::args) const LAYER: &str = "\
Examples:
  pip install --target numpy/python numpy
  calve layer publish numpy --content ./numpy --runtime python3.11
  calve function update resize --layer arn:aws:lambda:us-east-1:123456789012:layer:numpy:1
  calve layer ls
  calve layer ls numpy --json
  calve layer rm numpy:1

Functions see their layers merged as /opt. Python imports from python/ and from
python/lib/python3.11/site-packages/ of it, Node from nodejs/node_modules/ and from
nodejs/node20/node_modules/; programs are found in bin/, shared libraries in lib/. Prints the ARN of
the version that is published. A version never changes, and its number is not given again.";

/// `calve event --help`.
pub(in crate::args) const EVENT: &str = "\
Examples:
  calve event create resize --kind file-drop --set folder=incoming
  calve event create report --kind schedule --set expression='rate(5 minutes)' --qualifier live
  calve event create pay --kind queue --set name=orders --set batch_size=10
  calve event create ship --kind table --set database=shop.db --set table=orders
  calve event ls
  calve event rm 5b0f7f3e-5a0c-4c4f-9d2c-0d7f3f3d8a11

An event source calls a function for whatever happens. Prints the new source's id. Settings of
file-drop: folder, below the tenant's; inline=true, to have small files in the event; keep=true, to
leave files where they are. Of schedule: expression, as rate(...), cron(...) or five fields in UTC;
input, the event. Of queue: name; batch_size. Of table: database, a SQLite file in the tenant's
folder that is not in write-ahead mode; table; existing=true, to have rows that are there already.";

/// `calve top --help`.
pub(in crate::args) const TOP: &str = "\
Examples:
  calve top
  calve top --once

Follows the function host once a second until q or Ctrl-C is pressed.";
