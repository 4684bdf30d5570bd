package restapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// BulkBody is a bulk change of things with names.
type BulkBody[T any] struct {
	Closed
	Actions []BulkAction[T] `json:"actions"`
}

// bulkMeans are the members of every action of a bulk change.
type bulkMeans struct {
	Action               string   `json:"action" enum:"create,update,delete"`
	ActionOnExistence    string   `json:"action_on_existence" default:"fail" enum:"fail,skip,overwrite"`
	ActionOnNonExistence string   `json:"action_on_non_existence" default:"fail" enum:"fail,skip"`
	UpdateMask           []string `json:"update_mask" required:"false" nullable:"true"`
}

// BulkAction is one action of a bulk change.
type BulkAction[T any] struct {
	Closed
	bulkMeans
	Entities []bulkEntity[T] `json:"entities"`
}

// bulkEntity is a thing, or for a delete its name.
type bulkEntity[T any] struct {
	name string
	body *T
	raw  json.RawMessage
}

func (b *bulkEntity[T]) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	b.raw = raw
	if isKind(raw, '"') {
		return json.Unmarshal(raw, &b.name) == nil
	}
	b.body = new(T)
	return bindInto(b.body, raw, loc, ps)
}

func (b *bulkEntity[T]) schema(d *describer) any {
	return obj{"anyOf": []any{obj{"type": "string"}, d.object(typeOf[T]())}}
}

type bulkChange[T any] struct{ Body BulkBody[T] }

// bulkOf says how a kind of thing is changed in bulk.
type bulkOf[T any] struct {
	// what begins the error texts: "variables with these keys".
	what string
	name func(*T) string
	// exists reports which names there are.
	exists func(r *Request, name string) (bool, error)
	// asBefore has every action see what there was before the request, as Airflow
	// does for connections.
	asBefore bool
	// put creates or replaces.
	put    func(r *Request, v *T) error
	update func(r *Request, v *T, raw json.RawMessage, mask []string) error
	remove func(r *Request, name string) error
}

// bulk carries out actions in their order. An action is refused whole where one
// of its things is there (or is not) and that is not to be skipped; a failing
// action does not undo the others.
func (k bulkOf[T]) bulk(r *Request, in *bulkChange[T]) (BulkResponse, error) {
	var out BulkResponse
	var wrong problems
	names := map[string]bool{}
	for i, act := range in.Body.Actions {
		for j, e := range act.Entities {
			if e.body == nil && act.Action != "delete" {
				wrong.add("model_attributes_type", []any{"body", "actions", i, act.Action, "entities", j}, e.raw, nil, "Input should be a valid dictionary or object to extract fields from")
				continue
			}
			names[k.nameOf(e)] = false
		}
	}
	if wrong != nil {
		return out, Invalid(wrong...)
	}
	look := func() error {
		for n := range names {
			ok, err := k.exists(r, n)
			if err != nil {
				return err
			}
			names[n] = ok
		}
		return nil
	}
	for i, act := range in.Body.Actions {
		if i == 0 || !k.asBefore {
			if err := look(); err != nil {
				return out, err
			}
		}
		part := out.Of(act.Action)
		if err := k.act(r, act, names, part); err != nil {
			if err := part.Fail(err); err != nil {
				return out, err
			}
		}
	}
	return out, nil
}

func (k bulkOf[T]) nameOf(e bulkEntity[T]) string {
	if e.body == nil {
		return e.name
	}
	return k.name(e.body)
}

func (k bulkOf[T]) act(r *Request, act BulkAction[T], there map[string]bool, part *BulkActionResponse) error {
	creates := act.Action == "create"
	var in, clash []string
	for _, e := range act.Entities {
		n := k.nameOf(e)
		in = append(in, n)
		if there[n] == creates {
			clash = append(clash, n)
		}
	}
	switch {
	case creates && act.ActionOnExistence == "fail" && clash != nil:
		return Conflict("The %s: %s already exist.", k.what, pythonSet(clash))
	case !creates && act.ActionOnNonExistence == "fail" && clash != nil:
		return NotFound("The %s: %s were not found.", k.what, pythonSet(clash))
	}
	for i, e := range act.Entities {
		n := in[i]
		var err error
		switch act.Action {
		case "create":
			if there[n] && act.ActionOnExistence == "skip" {
				continue
			}
			err = k.put(r, e.body)
		case "update":
			if !there[n] {
				continue
			}
			err = k.update(r, e.body, e.raw, act.UpdateMask)
		case "delete":
			if !there[n] {
				continue
			}
			err = k.remove(r, n)
		}
		if errors.Is(err, airflow.ErrNotFound) { // gone meanwhile
			err = NotFound("The %s: %s were not found.", k.what, pythonSet([]string{n}))
		}
		if err := part.did(n, err, ""); err != nil { // those not there were dealt with above
			return err
		}
	}
	return nil
}

// pythonSet is a set of texts as Python writes it; here in order.
func pythonSet(l []string) string {
	seen := map[string]bool{}
	var q []string
	for _, s := range l {
		if !seen[s] {
			seen[s] = true
			q = append(q, PythonRepr(textJSON(s)))
		}
	}
	sort.Strings(q)
	return "{" + strings.Join(q, ", ") + "}"
}

// secretMark is what stands for a secret in answers, and in a change for "as it is".
const secretMark = "***"

// keepSecrets puts back, into a value that came from a client, the secrets that
// it was shown as ***: those below sensitive names.
func (r *Request) keepSecrets(now, old json.RawMessage) json.RawMessage {
	if !isKind(now, '{') || !isKind(old, '{') {
		return now
	}
	keys, vals, ok := objectFields(now)
	_, before, ok2 := objectFields(old)
	if !ok || !ok2 {
		return now
	}
	var b strings.Builder
	b.WriteByte('{')
	for i, k := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(textJSON(k))
		b.WriteByte(':')
		v, was := vals[k], before[k]
		switch {
		case was != nil && r.API.Sensitive(k) && string(v) == string(hidden):
			v = was
		case was != nil:
			v = r.keepSecrets(v, was)
		}
		b.Write(v)
	}
	b.WriteByte('}')
	return json.RawMessage(b.String())
}

// masks reports which members a change touches: all that came without a mask, of
// those with one only the named. Names that are not members change nothing.
func masks(mask []string, raw json.RawMessage) (func(name string) bool, error) {
	_, came, ok := objectFields(raw)
	if !ok {
		return nil, Errorf(http.StatusUnprocessableEntity, "expected an object")
	}
	return func(name string) bool {
		if _, there := came[name]; !there && len(mask) == 0 {
			return false
		}
		return len(mask) == 0 || contains(mask, name)
	}, nil
}
