package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/store"
)

// ConnectionResponse is a connection; its secrets are ***.
type ConnectionResponse struct {
	ConnectionID string  `json:"connection_id"`
	ConnType     string  `json:"conn_type"`
	Description  *string `json:"description"`
	Host         *string `json:"host"`
	Login        *string `json:"login"`
	Schema       *string `json:"schema"`
	Port         *int    `json:"port"`
	Password     *string `json:"password"`
	Extra        *string `json:"extra"`
	TeamName     *string `json:"team_name"`
}

// ConnectionCollectionResponse is a list of connections.
type ConnectionCollectionResponse struct {
	Connections []ConnectionResponse `json:"connections"`
	Total       int                  `json:"total_entries"`
	TotalLimit  *int                 `json:"total_entries_limit,omitempty"`
	Next        *string              `json:"next_cursor,omitempty"`
}

// ConnectionBody is a connection that is made, changed or tried.
type ConnectionBody struct {
	Closed
	ConnectionID string    `json:"connection_id" maxlen:"200" pattern:"^[\\w.-]+$"`
	ConnType     string    `json:"conn_type"`
	Description  *string   `json:"description"`
	Host         *string   `json:"host"`
	Login        *string   `json:"login"`
	Schema       *string   `json:"schema"`
	Port         *int      `json:"port"`
	Password     *string   `json:"password"`
	Extra        extraText `json:"extra" required:"false" nullable:"true"`
	TeamName     *string   `json:"team_name" maxlen:"50"`
}

// extraText is the text of a JSON object, or "".
type extraText struct{ text string }

func (e *extraText) bind(raw json.RawMessage, loc []any, ps *problems) bool {
	if json.Unmarshal(raw, &e.text) != nil {
		ps.add("string_type", loc, raw, nil, "Input should be a valid string")
		return false
	}
	t := strings.TrimSpace(e.text)
	why := ""
	switch {
	case t == "":
		e.text = ""
	case !json.Valid([]byte(t)):
		why = ", but encountered non-JSON in `extra` field"
	case !isKind(json.RawMessage(t), '{'):
		why = ", but encountered JSON that is no object"
	}
	if why == "" {
		return true
	}
	ps.add("value_error", loc, nil, map[string]any{"error": map[string]any{}}, "Value error, The `extra` field must be a valid JSON object (e.g., {'key': 'value'})%s", why) // the text may hold secrets
	return false
}

func (e *extraText) schema(*describer) any { return obj{"type": "string"} }

// ConnectionTestResponse says whether a connection works.
type ConnectionTestResponse struct {
	Status  bool   `json:"status"`
	Message string `json:"message"`
}

type listConnections struct {
	CursorPaging
	Ordering
	ID       *string `query:"connection_id_pattern"`
	IDPrefix *string `query:"connection_id_prefix_pattern"`
}

type connectionPath struct {
	ConnectionID string `path:"connection_id"`
}

type postConnection struct{ Body ConnectionBody }

type patchConnection struct {
	connectionPath
	UpdateMask []string `query:"update_mask"`
	Body       ConnectionBody
}

func registerConnections(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/connections" + path, ID: id, Tag: "Connection", Summary: summary, Action: act, Resource: auth.ResourceConnection}
	}
	list := op("GET", "", "get_connections", "Get Connections", auth.Read)
	list.Indexed = []string{"connection_id_prefix_pattern", "order_by=connection_id"}
	Handle(a, list, getConnections)
	post := op("POST", "", "post_connection", "Post Connection", auth.Create)
	post.Status = http.StatusCreated
	Handle(a, post, func(r *Request, in *postConnection) (ConnectionResponse, error) {
		c := in.Body.connection()
		err := r.API.Store.CreateConnection(r.Context(), c)
		if errors.Is(err, airflow.ErrAlreadyExists) {
			return ConnectionResponse{}, NotUnique("UNIQUE constraint failed: connection.conn_id: %s", c.ConnID)
		}
		return r.connection(c), err
	})
	Handle(a, op("PATCH", "", "bulk_connections", "Bulk Connections", auth.Edit), connectionBulk.bulk)
	Handle(a, op("POST", "/defaults", "create_default_connections", "Create Default Connections", auth.Create), func(r *Request, _ *nothing) (Empty, error) {
		for _, c := range defaultConnections {
			if err := r.API.Store.CreateConnection(r.Context(), c); err != nil && !errors.Is(err, airflow.ErrAlreadyExists) {
				return Empty{}, err
			}
		}
		return Empty{}, nil
	})
	test := op("POST", "/test", "test_connection", "Test Connection", auth.Create)
	test.Event = "-"
	Handle(a, test, func(r *Request, in *postConnection) (ConnectionTestResponse, error) {
		if r.API.TestConnection == nil {
			return ConnectionTestResponse{}, Errorf(http.StatusForbidden, "Testing connections is disabled in Airflow configuration. Contact your deployment admin to enable it.")
		}
		c := in.Body.connection()
		old, err := r.API.Store.GetConnection(r.Context(), c.ConnID)
		if err := unlessNotFound(err); err != nil {
			return ConnectionTestResponse{}, err
		}
		r.keepConnection(&c, old)
		ok, msg := r.API.TestConnection(r.Context(), c)
		return ConnectionTestResponse{ok, msg}, nil
	})
	Handle(a, op("GET", "/{connection_id}", "get_connection", "Get Connection", auth.Read), func(r *Request, in *connectionPath) (ConnectionResponse, error) {
		c, err := r.API.Store.GetConnection(r.Context(), in.ConnectionID)
		return r.connection(c), noConnection(err, in.ConnectionID)
	})
	Handle(a, op("PATCH", "/{connection_id}", "patch_connection", "Patch Connection", auth.Edit), func(r *Request, in *patchConnection) (ConnectionResponse, error) {
		if in.Body.ConnectionID != in.ConnectionID {
			return ConnectionResponse{}, BadRequest("The connection_id in the request body does not match the URL parameter")
		}
		c, err := r.changeConnection(&in.Body, r.RawBody, in.UpdateMask)
		return r.connection(c), noConnection(err, in.ConnectionID)
	})
	Handle(a, op("DELETE", "/{connection_id}", "delete_connection", "Delete Connection", auth.Delete), func(r *Request, in *connectionPath) (Empty, error) {
		return Empty{}, noConnection(r.API.Store.DeleteConnection(r.Context(), in.ConnectionID), in.ConnectionID)
	})
}

func noConnection(err error, id string) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return NotFound("The Connection with connection_id: `%s` was not found", id)
	}
	return err
}

// connection is a connection as people may see it.
func (r *Request) connection(c airflow.Connection) ConnectionResponse {
	out := ConnectionResponse{
		ConnectionID: c.ConnID, ConnType: c.ConnType, Description: orNil(c.Description), Host: orNil(c.Host), Login: orNil(c.Login), Schema: orNil(c.Schema),
	}
	if c.Port != 0 {
		out.Port = &c.Port
	}
	if c.Password != "" {
		out.Password = ptrTo(secretMark)
	}
	switch {
	case c.Extra == "":
	case json.Valid([]byte(c.Extra)):
		out.Extra = ptrTo(PythonJSON(rewrite(json.RawMessage(c.Extra), r.API.Sensitive)))
	default: // no JSON: what of it is secret cannot be told
		out.Extra = ptrTo(secretMark)
	}
	return out
}

func (b *ConnectionBody) connection() airflow.Connection {
	text := func(p *string) string {
		if p == nil {
			return ""
		}
		return *p
	}
	c := airflow.Connection{
		ConnID: b.ConnectionID, ConnType: b.ConnType, Description: text(b.Description), Host: text(b.Host), Login: text(b.Login), Schema: text(b.Schema),
		Password: text(b.Password), Extra: b.Extra.text,
	}
	if b.Port != nil {
		c.Port = *b.Port
	}
	return c
}

// keepConnection puts back the secrets that the client was shown as ***.
func (r *Request) keepConnection(c *airflow.Connection, old airflow.Connection) {
	if c.Password == secretMark {
		c.Password = old.Password
	}
	if json.Valid([]byte(c.Extra)) && json.Valid([]byte(old.Extra)) {
		c.Extra = string(r.keepSecrets(json.RawMessage(c.Extra), json.RawMessage(old.Extra)))
	}
}

// changeConnection changes what came in the body.
func (r *Request) changeConnection(b *ConnectionBody, raw json.RawMessage, mask []string) (airflow.Connection, error) {
	touches, err := masks(mask, raw)
	if err != nil {
		return airflow.Connection{}, err
	}
	return r.API.Store.UpdateConnection(r.Context(), b.ConnectionID, func(c *airflow.Connection) error {
		now := b.connection()
		r.keepConnection(&now, *c)
		for name, set := range map[string]func(){
			"conn_type": func() { c.ConnType = now.ConnType }, "description": func() { c.Description = now.Description }, "host": func() { c.Host = now.Host },
			"login": func() { c.Login = now.Login }, "schema": func() { c.Schema = now.Schema }, "port": func() { c.Port = now.Port },
			"password": func() { c.Password = now.Password }, "extra": func() { c.Extra = now.Extra },
		} {
			if touches(name) {
				set()
			}
		}
		return nil
	})
}

func connectionOrders() Orders[airflow.Connection] {
	text := func(f func(airflow.Connection) string) func(airflow.Connection) SortKey {
		return func(c airflow.Connection) SortKey { return ByTextPtr(orNil(f(c))) }
	}
	id := func(c airflow.Connection) SortKey { return ByText(c.ConnID) }
	return Orders[airflow.Connection]{
		By: map[string]func(airflow.Connection) SortKey{
			"id": id, "conn_id": id, "connection_id": id,
			"conn_type":   text(func(c airflow.Connection) string { return c.ConnType }),
			"description": text(func(c airflow.Connection) string { return c.Description }),
			"host":        text(func(c airflow.Connection) string { return c.Host }),
			"port": func(c airflow.Connection) SortKey {
				if c.Port == 0 {
					return SortKey{Null: true}
				}
				return ByInt(int64(c.Port))
			},
			"team_name": func(airflow.Connection) SortKey { return SortKey{Null: true} },
		},
		Default: []string{"id"}, ID: id,
	}
}

func getConnections(r *Request, in *listConnections) (ConnectionCollectionResponse, error) {
	match, prefix := Pattern(in.ID), Prefix(in.IDPrefix)
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.Connection, string, error) {
		return r.API.Store.ListConnectionsPage(ctx, onePrefix(in.IDPrefix), store.ListOptions{Limit: limit, Cursor: cursor})
	}
	p, err := List(r, in.query(in.Ordering), connectionOrders(), read, func(c airflow.Connection) bool { return match(c.ConnID) && prefix(c.ConnID) })
	out := ConnectionCollectionResponse{Connections: []ConnectionResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	for _, c := range p.Items {
		out.Connections = append(out.Connections, r.connection(c))
	}
	return out, err
}

var connectionBulk = bulkOf[ConnectionBody]{
	what: "connections with these connection_ids", name: func(b *ConnectionBody) string { return b.ConnectionID }, asBefore: true,
	exists: func(r *Request, id string) (bool, error) {
		_, err := r.API.Store.GetConnection(r.Context(), id)
		return err == nil, unlessNotFound(err)
	},
	put: func(r *Request, b *ConnectionBody) error {
		c := b.connection()
		old, err := r.API.Store.GetConnection(r.Context(), c.ConnID)
		if err := unlessNotFound(err); err != nil {
			return err
		}
		r.keepConnection(&c, old)
		return r.API.Store.PutConnection(r.Context(), c)
	},
	update: func(r *Request, b *ConnectionBody, raw json.RawMessage, mask []string) error {
		_, err := r.changeConnection(b, raw, mask)
		return err
	},
	remove: func(r *Request, id string) error { return r.API.Store.DeleteConnection(r.Context(), id) },
}

// defaultConnections are placeholders for what can be reached with the operators
// that Gust has, under the ids that they take by default.
var defaultConnections = []airflow.Connection{
	{ConnID: "aws_default", ConnType: "aws"},
	{ConnID: "fs_default", ConnType: "fs", Extra: `{"path": "/"}`},
	{ConnID: "http_default", ConnType: "http", Host: "https://www.httpbin.org/"},
	{ConnID: "mysql_default", ConnType: "mysql", Host: "mysql", Login: "root", Schema: "airflow"},
	{ConnID: "postgres_default", ConnType: "postgres", Host: "postgres", Login: "postgres", Schema: "airflow"},
	{ConnID: "smtp_default", ConnType: "smtp", Host: "localhost", Port: 25},
	{ConnID: "sqlite_default", ConnType: "sqlite", Host: "/tmp/sqlite_default.db"},
	{ConnID: "ssh_default", ConnType: "ssh", Host: "localhost"},
}
