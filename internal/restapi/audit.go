package restapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/mask"
	"github.com/gustflow/gust/internal/pyrepr"
	"github.com/gustflow/gust/internal/store"
)

var words = mask.New(mask.Options{})

func sensitive(name string) bool { return words.Sensitive(name) }

// notInExtra are parameters that an audit entry has members of its own for.
var notInExtra = map[string]bool{"dag_id": true, "task_id": true, "dag_run_id": true, "run_id": true, "logical_date": true, "is_paused": true}

// audit records a change that is asked for, before it is checked: refused ones
// are recorded too. As in Airflow its extra is the query, the path and the body
// as one object, with secrets hidden, and the method.
func (r *Request) audit(op *operation) {
	var keys []string
	vals := map[string]json.RawMessage{}
	put := func(k string, v json.RawMessage) {
		if _, ok := vals[k]; !ok {
			keys = append(keys, k)
		}
		vals[k] = v
	}
	query := r.URL.Query()
	names := make([]string, 0, len(query))
	for k := range query {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		if !notInExtra[k] && len(query[k]) > 0 {
			put(k, r.hide(k, textJSON(query[k][len(query[k])-1])))
		}
	}
	for _, k := range op.params {
		if !notInExtra[k] {
			put(k, textJSON(r.path[k]))
		}
	}
	bodyKeys, body, _ := objectFields(r.RawBody)
	for _, k := range bodyKeys {
		put(k, r.hideBody(op, k, body))
	}
	put("method", textJSON(r.Method))
	var b strings.Builder
	b.WriteString("{")
	for i, k := range keys {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(PythonJSON(textJSON(k)) + ": " + PythonJSON(vals[k]))
	}
	b.WriteString("}")
	text := func(names ...string) string {
		for _, n := range names {
			if v := r.path[n]; v != "" && v != "~" {
				return v
			}
			var s string
			if raw, ok := body[n]; ok && json.Unmarshal(raw, &s) == nil && s != "" {
				return s
			}
		}
		return ""
	}
	ev := store.AuditEvent{
		ID: uuid.NewString(), When: r.API.now(), Event: op.Event, Owner: r.Who.Name, Source: r.Who.Source,
		DagID: airflow.DagID(text("dag_id")), RunID: airflow.RunID(text("run_id", "dag_run_id")), TaskID: airflow.TaskID(text("task_id")),
		Extra: textJSON(b.String()),
	}
	if n, err := strconv.Atoi(r.path["map_index"]); err == nil {
		ev.MapIndex = &n
	}
	if n, err := strconv.Atoi(r.path["try_number"]); err == nil {
		ev.TryNumber = &n
	}
	if err := r.API.Store.PutAudit(context.WithoutCancel(r.Context()), ev); err != nil {
		r.API.Log.ErrorContext(r.Context(), "audit event not stored", "event", op.Event, "err", err)
	}
}

// maxAuditValue bounds what one member of a body adds to an audit entry.
const maxAuditValue = 8 << 10

// hideBody is a member of a body as the audit log may show it.
func (r *Request) hideBody(op *operation, key string, body map[string]json.RawMessage) json.RawMessage {
	v := body[key]
	switch op.Resource {
	case auth.ResourceVariable:
		if key == "value" || key == "val" || key == "actions" {
			return hideNamed(v, map[string]bool{"value": true}, key != "actions")
		}
	case auth.ResourceConnection:
		if key == "password" || key == "extra" || key == "actions" {
			return hideNamed(v, map[string]bool{"password": true, "extra": true}, key != "actions")
		}
	}
	if len(v) > maxAuditValue {
		return textJSON(fmt.Sprintf("(%d bytes)", len(v)))
	}
	return r.hide(key, v)
}

// hidden is what stands for a secret.
var hidden = json.RawMessage(`"***"`)

// hideNamed replaces members of those names at any depth, or all of it.
func hideNamed(v json.RawMessage, names map[string]bool, all bool) json.RawMessage {
	if all {
		if isNull(v) {
			return v
		}
		return hidden
	}
	return rewrite(v, func(key string) bool { return names[key] })
}

// hide replaces what a sensitive name stands for.
func (r *Request) hide(key string, v json.RawMessage) json.RawMessage {
	if r.API.Sensitive(key) && !isNull(v) {
		return hidden
	}
	return rewrite(v, r.API.Sensitive)
}

// rewrite copies a value and hides the members whose names say so.
func rewrite(v json.RawMessage, secret func(string) bool) json.RawMessage {
	switch {
	case isKind(v, '{'):
		keys, vals, ok := objectFields(v)
		if !ok {
			return hidden
		}
		var b bytes.Buffer
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(textJSON(k))
			b.WriteByte(':')
			if secret(k) && !isNull(vals[k]) {
				b.Write(hidden)
			} else {
				b.Write(rewrite(vals[k], secret))
			}
		}
		b.WriteByte('}')
		return b.Bytes()
	case isKind(v, '['):
		var items []json.RawMessage
		if json.Unmarshal(v, &items) != nil {
			return hidden
		}
		var b bytes.Buffer
		b.WriteByte('[')
		for i, it := range items {
			if i > 0 {
				b.WriteByte(',')
			}
			b.Write(rewrite(it, secret))
		}
		b.WriteByte(']')
		return b.Bytes()
	}
	return v
}

// PythonJSON writes JSON as Python's json.dumps does: a space after , and : and
// nothing but ASCII. Members keep their order and numbers their text.
func PythonJSON(raw json.RawMessage) string {
	var b strings.Builder
	pythonJSON(&b, raw)
	return b.String()
}

func pythonJSON(b *strings.Builder, raw json.RawMessage) {
	raw = bytes.TrimSpace(raw)
	switch {
	case isKind(raw, '{'):
		keys, vals, _ := objectFields(raw)
		b.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				b.WriteString(", ")
			}
			pyrepr.WriteJSON(b, k)
			b.WriteString(": ")
			pythonJSON(b, vals[k])
		}
		b.WriteByte('}')
	case isKind(raw, '['):
		var items []json.RawMessage
		_ = json.Unmarshal(raw, &items) // it is valid JSON
		b.WriteByte('[')
		for i, it := range items {
			if i > 0 {
				b.WriteString(", ")
			}
			pythonJSON(b, it)
		}
		b.WriteByte(']')
	case isKind(raw, '"'):
		var s string
		_ = json.Unmarshal(raw, &s)
		pyrepr.WriteJSON(b, s)
	default:
		b.Write(raw)
	}
}
