"""A model behind an OpenAI-compatible server: asked once for each question, whatever goes wrong on the way.

```
settings.py   what a bundle says of a server
requests.py   what is asked: the body of a request, and its name in the store
store.py      answers and failures on disk (SQLite): what was paid for is never asked again
limits.py     requests and tokens a minute, and pauses that the server asks for
faults.py     what can go wrong, and what helps: wait, ask again, leave this one, stop
client.py     the official client, one attempt at a time
asking.py     many requests at once, with retries; nothing lost, nothing guessed
tops.py       listed log-probabilities -> masses of verdicts, and bounds for what was not listed
messages.py   rendered token ids -> messages of a chat; special tokens in texts are taken apart
backend.py    ServedBackend: masses of verdicts; writer.py: ServedWriter: texts
```
"""
