#!/bin/bash
# The core of a function's life with the command line `aws`. The environment says where: CALVE_ENDPOINT,
# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; the current folder is for files.
set -euo pipefail

# Once: a second try would hide what the first one met.
export AWS_DEFAULT_REGION=us-east-1 AWS_MAX_ATTEMPTS=1 AWS_PAGER=

aws_lambda() {
    python3.11 -m awscli --endpoint-url "$CALVE_ENDPOINT" --output text lambda "$@"
}

same() {
    if [ "$2" != "$3" ]; then
        echo "$1: \`$2\` is not \`$3\`" >&2
        exit 1
    fi
    echo "ok: $1"
}

cat > app.py <<'PY'
def handler(event, context):
    return {"twice": 2 * event["n"]}
PY
python3.11 -m zipfile -c code.zip app.py

said=$(aws_lambda create-function --function-name cli --runtime python3.11 --handler app.handler \
    --role arn:aws:iam::123456789012:role/any --timeout 60 --zip-file fileb://code.zip \
    --query '[FunctionName,Runtime,Version]')
same create-function "$said" $'cli\tpython3.11\t$LATEST'

said=$(aws_lambda wait function-active-v2 --function-name cli)
same 'wait function-active-v2' "$said" ''

said=$(aws_lambda invoke --function-name cli --payload '{"n": 21}' --query StatusCode result.json)
same invoke "$said" 200
same 'result of invoke' "$(python3.11 -c 'import json; print(json.load(open("result.json")))')" "{'twice': 42}"

said=$(aws_lambda invoke --function-name cli --payload '{}' --query FunctionError result.json)
case $said in
    Handled | Unhandled) same 'invoke that fails' "$(grep -o KeyError result.json | head -n 1)" KeyError ;;
    *) same 'invoke that fails' "$said" Unhandled ;;
esac

said=$(aws_lambda list-functions --query 'Functions[].FunctionName')
same list-functions "$said" cli

said=$(aws_lambda delete-function --function-name cli --query FunctionName)
same delete-function "${said/None/}" ''

if said=$(aws_lambda get-function --function-name cli 2>&1); then
    same 'get-function after its end' "$said" 'an error'
fi
same 'get-function after its end' "$(grep -o '(ResourceNotFoundException)' <<< "$said")" '(ResourceNotFoundException)'
echo passed
