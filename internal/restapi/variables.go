package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// VariableResponse is a variable; a secret value is ***.
type VariableResponse struct {
	Key         string  `json:"key"`
	Value       string  `json:"value"`
	Description *string `json:"description"`
	IsEncrypted bool    `json:"is_encrypted"`
	TeamName    *string `json:"team_name"`
}

// VariableCollectionResponse is a list of variables.
type VariableCollectionResponse struct {
	Variables  []VariableResponse `json:"variables"`
	Total      int                `json:"total_entries"`
	TotalLimit *int               `json:"total_entries_limit,omitempty"`
	Next       *string            `json:"next_cursor,omitempty"`
}

// VariableBody is a variable that is made or changed; any JSON is its value.
type VariableBody struct {
	Closed
	Key         string          `json:"key" maxlen:"250"`
	Value       json.RawMessage `json:"value"`
	Description *string         `json:"description"`
	TeamName    *string         `json:"team_name" maxlen:"50"`
}

type listVariables struct {
	CursorPaging
	Ordering
	Key       *string `query:"variable_key_pattern"`
	KeyPrefix *string `query:"variable_key_prefix_pattern"`
}

type variablePath struct {
	Key string `path:"variable_key"`
}

type postVariable struct{ Body VariableBody }

type patchVariable struct {
	variablePath
	UpdateMask []string `query:"update_mask"`
	Body       VariableBody
}

func registerVariables(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/variables" + path, ID: id, Tag: "Variable", Summary: summary, Action: act, Resource: auth.ResourceVariable}
	}
	list := op("GET", "", "get_variables", "Get Variables", auth.Read)
	list.Indexed = []string{"variable_key_prefix_pattern", "order_by=key"}
	Handle(a, list, getVariables)
	post := op("POST", "", "post_variable", "Post Variable", auth.Create)
	post.Status = http.StatusCreated
	Handle(a, post, createVariable)
	Handle(a, op("PATCH", "", "bulk_variables", "Bulk Variables", auth.Edit), variableBulk.bulk)
	Handle(a, op("GET", "/{variable_key...}", "get_variable", "Get Variable", auth.Read), func(r *Request, in *variablePath) (VariableResponse, error) {
		v, err := r.API.Store.GetVariable(r.Context(), in.Key)
		return r.variable(v), noVariable(err, in.Key)
	})
	Handle(a, op("PATCH", "/{variable_key...}", "patch_variable", "Patch Variable", auth.Edit), func(r *Request, in *patchVariable) (VariableResponse, error) {
		if in.Body.Key != in.Key {
			return VariableResponse{}, BadRequest("Invalid body, key from request body doesn't match uri parameter")
		}
		v, err := r.changeVariable(&in.Body, r.RawBody, in.UpdateMask)
		return r.variable(v), noVariable(err, in.Key)
	})
	Handle(a, op("DELETE", "/{variable_key...}", "delete_variable", "Delete Variable", auth.Delete), func(r *Request, in *variablePath) (Empty, error) {
		return Empty{}, noVariable(r.API.Store.DeleteVariable(r.Context(), in.Key), in.Key)
	})
}

func noVariable(err error, key string) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return NotFound("The Variable with key: `%s` was not found", key)
	}
	return err
}

// variable is a variable as people may see it: hidden by its key, or by the
// names of what it holds.
func (r *Request) variable(v airflow.Variable) VariableResponse {
	out := VariableResponse{Key: v.Key, Value: v.Value, Description: orNil(v.Description), IsEncrypted: true}
	switch {
	case r.API.Sensitive(v.Key):
		out.Value = secretMark
	case json.Valid([]byte(v.Value)):
		out.Value = PythonJSON(rewrite(json.RawMessage(v.Value), r.API.Sensitive))
	}
	return out
}

// valueText is what is stored of a value: a text as it is, everything else as JSON text.
func valueText(raw json.RawMessage) string {
	var s string
	if isKind(raw, '"') && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return PythonJSON(raw)
}

func (b *VariableBody) variable() airflow.Variable {
	v := airflow.Variable{Key: b.Key, Value: valueText(b.Value)}
	if b.Description != nil {
		v.Description = *b.Description
	}
	return v
}

func variableOrders(r *Request) Orders[airflow.Variable] {
	key := func(v airflow.Variable) SortKey { return ByText(v.Key) }
	return Orders[airflow.Variable]{
		By: map[string]func(airflow.Variable) SortKey{
			"key": key, "id": key,
			"_val":         func(v airflow.Variable) SortKey { return ByText(r.variable(v).Value) }, // what is hidden is not ordered by
			"description":  func(v airflow.Variable) SortKey { return ByTextPtr(orNil(v.Description)) },
			"is_encrypted": func(airflow.Variable) SortKey { return ByBool(true) },
			"team_name":    func(airflow.Variable) SortKey { return SortKey{Null: true} },
		},
		Default: []string{"id"}, ID: key,
	}
}

// onePrefix is the prefix that bounds an access path, "" for none.
func onePrefix(p *string) string {
	if l := prefixes(p); len(l) == 1 {
		return l[0]
	}
	return ""
}

func getVariables(r *Request, in *listVariables) (VariableCollectionResponse, error) {
	match, prefix := Pattern(in.Key), Prefix(in.KeyPrefix)
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.Variable, string, error) {
		return r.API.Store.ListVariablesPage(ctx, onePrefix(in.KeyPrefix), store.ListOptions{Limit: limit, Cursor: cursor})
	}
	p, err := List(r, in.query(in.Ordering), variableOrders(r), read, func(v airflow.Variable) bool { return match(v.Key) && prefix(v.Key) })
	out := VariableCollectionResponse{Variables: []VariableResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	for _, v := range p.Items {
		out.Variables = append(out.Variables, r.variable(v))
	}
	return out, err
}

func createVariable(r *Request, in *postVariable) (VariableResponse, error) {
	v := in.Body.variable()
	err := r.API.Store.CreateVariable(r.Context(), v)
	if errors.Is(err, airflow.ErrAlreadyExists) {
		return VariableResponse{}, Conflict("The Variable with key: `%s` already exists", v.Key)
	}
	return r.variable(v), err
}

// changeVariable changes what came in the body. The mark of a secret leaves the
// secret as it is.
func (r *Request) changeVariable(b *VariableBody, raw json.RawMessage, mask []string) (airflow.Variable, error) {
	touches, err := masks(mask, raw)
	if err != nil {
		return airflow.Variable{}, err
	}
	return r.API.Store.UpdateVariable(r.Context(), b.Key, func(v *airflow.Variable) error {
		now := b.variable()
		if touches("value") {
			switch {
			case now.Value == secretMark && r.API.Sensitive(v.Key):
			case isKind(json.RawMessage(now.Value), '{') && json.Valid([]byte(now.Value)) && json.Valid([]byte(v.Value)):
				v.Value = PythonJSON(r.keepSecrets(json.RawMessage(now.Value), json.RawMessage(v.Value)))
			default:
				v.Value = now.Value
			}
		}
		if touches("description") {
			v.Description = now.Description
		}
		return nil
	})
}

var variableBulk = bulkOf[VariableBody]{
	what: "variables with these keys", name: func(b *VariableBody) string { return b.Key },
	exists: func(r *Request, key string) (bool, error) {
		_, err := r.API.Store.GetVariable(r.Context(), key)
		return err == nil, unlessNotFound(err)
	},
	put: func(r *Request, b *VariableBody) error {
		if b.Value != nil && string(b.Value) == string(hidden) { // overwritten by what an export shows
			if _, err := r.changeVariable(b, textObject("value", "description"), nil); !errors.Is(err, airflow.ErrNotFound) {
				return err
			}
		}
		return r.API.Store.PutVariable(r.Context(), b.variable())
	},
	update: func(r *Request, b *VariableBody, raw json.RawMessage, mask []string) error {
		_, err := r.changeVariable(b, raw, mask)
		return err
	},
	remove: func(r *Request, key string) error { return r.API.Store.DeleteVariable(r.Context(), key) },
}

// unlessNotFound is the error, nil for not found.
func unlessNotFound(err error) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return nil
	}
	return err
}

// textObject is an object that has members of these names.
func textObject(names ...string) json.RawMessage {
	m := map[string]any{}
	for _, n := range names {
		m[n] = nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil // unreachable
	}
	return b
}
