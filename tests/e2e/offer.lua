-- Offers completions to the verbatim resource; most are refused, which is the point.
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"model": "production-r1", "prompt": "hello", "max_tokens": 4}'
