"""Open-loop load that proves "no request lost": who needs it starts `process.running` and reads its `Report`.

`plan` is what is sent and when, `wire` the connections, `kinds` what is asked and what counts as answered,
`ledger` the account of every request on disk, `generator` the loop, `process` the handle on its process,
`report` what the ledger says, `stack` the running local stack as a target, `writes` what the database has.
"""
