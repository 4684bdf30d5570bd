package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/auth"
	"github.com/gustflow/gust/internal/engine"
	"github.com/gustflow/gust/internal/store"
)

// PoolResponse is a pool with what is taken of it.
type PoolResponse struct {
	Name            string  `json:"name"`
	Slots           int     `json:"slots"`
	Description     *string `json:"description"`
	IncludeDeferred bool    `json:"include_deferred"`
	OccupiedSlots   int     `json:"occupied_slots"`
	RunningSlots    int     `json:"running_slots"`
	QueuedSlots     int     `json:"queued_slots"`
	ScheduledSlots  int     `json:"scheduled_slots"`
	OpenSlots       int     `json:"open_slots"`
	DeferredSlots   int     `json:"deferred_slots"`
	TeamName        *string `json:"team_name"`
}

// PoolCollectionResponse is a list of pools.
type PoolCollectionResponse struct {
	Pools      []PoolResponse `json:"pools"`
	Total      int            `json:"total_entries"`
	TotalLimit *int           `json:"total_entries_limit,omitempty"`
	Next       *string        `json:"next_cursor,omitempty"`
}

// PoolBody is a pool that is made.
type PoolBody struct {
	Closed
	Name            string  `json:"name" maxlen:"256"`
	Slots           int     `json:"slots" min:"-1"`
	Description     *string `json:"description"`
	IncludeDeferred bool    `json:"include_deferred" default:"false"`
	TeamName        *string `json:"team_name" maxlen:"50"`
}

// PoolPatchBody is what may be changed of a pool.
type PoolPatchBody struct {
	Closed
	Pool            Opt[string] `json:"pool"`
	Slots           Opt[int]    `json:"slots" min:"-1"`
	Description     Opt[string] `json:"description"`
	IncludeDeferred Opt[bool]   `json:"include_deferred"`
	TeamName        Opt[string] `json:"team_name" maxlen:"50"`
}

type listPools struct {
	CursorPaging
	Ordering
	Name       *string `query:"pool_name_pattern"`
	NamePrefix *string `query:"pool_name_prefix_pattern"`
}

type poolPath struct {
	Name string `path:"pool_name"`
}

type postPool struct{ Body PoolBody }

type patchPool struct {
	poolPath
	UpdateMask []string `query:"update_mask"`
	Body       PoolPatchBody
}

func registerPools(a *API) {
	op := func(method, path, id, summary string, act auth.Action) Op {
		return Op{Method: method, Path: Base + "/pools" + path, ID: id, Tag: "Pool", Summary: summary, Action: act, Resource: auth.ResourcePool}
	}
	list := op("GET", "", "get_pools", "Get Pools", auth.Read)
	list.Indexed = []string{"pool_name_prefix_pattern", "order_by=name"}
	Handle(a, list, getPools)
	post := op("POST", "", "post_pool", "Post Pool", auth.Create)
	post.Status = http.StatusCreated
	Handle(a, post, func(r *Request, in *postPool) (PoolResponse, error) {
		p := in.Body.pool()
		err := r.newPool(p)
		if errors.Is(err, airflow.ErrAlreadyExists) {
			return PoolResponse{}, NotUnique("UNIQUE constraint failed: slot_pool.pool: %s", p.Name)
		}
		if err != nil {
			return PoolResponse{}, err
		}
		return r.poolOf(p)
	})
	Handle(a, op("PATCH", "", "bulk_pools", "Bulk Pools", auth.Edit), poolBulk.bulk)
	Handle(a, op("GET", "/{pool_name...}", "get_pool", "Get Pool", auth.Read), func(r *Request, in *poolPath) (PoolResponse, error) {
		p, err := r.API.Store.GetPool(r.Context(), in.Name)
		if err != nil {
			return PoolResponse{}, noPool(err, in.Name)
		}
		return r.poolOf(p)
	})
	Handle(a, op("PATCH", "/{pool_name...}", "patch_pool", "Patch Pool", auth.Edit), func(r *Request, in *patchPool) (PoolResponse, error) {
		p, err := r.changePool(in.Name, &in.Body, in.UpdateMask)
		if err != nil {
			return PoolResponse{}, err
		}
		return r.poolOf(p)
	})
	Handle(a, op("DELETE", "/{pool_name...}", "delete_pool", "Delete Pool", auth.Delete), func(r *Request, in *poolPath) (Empty, error) {
		return Empty{}, r.removePool(in.Name)
	})
}

func noPool(err error, name string) error {
	if errors.Is(err, airflow.ErrNotFound) {
		return NotFound("The Pool with name: `%s` was not found", name)
	}
	return err
}

func (b *PoolBody) pool() airflow.Pool {
	p := airflow.Pool{Name: b.Name, Slots: b.Slots, IncludeDeferred: b.IncludeDeferred}
	if b.Description != nil {
		p.Description = *b.Description
	}
	return p
}

func poolResponse(p airflow.Pool, s engine.PoolSlots) PoolResponse {
	out := PoolResponse{
		Name: p.Name, Slots: p.Slots, Description: orNil(p.Description), IncludeDeferred: p.IncludeDeferred,
		OccupiedSlots: s.Running + s.Queued, RunningSlots: s.Running, QueuedSlots: s.Queued, ScheduledSlots: s.Scheduled, DeferredSlots: s.Deferred,
		OpenSlots: airflow.UnlimitedSlots,
	}
	if p.IncludeDeferred {
		out.OccupiedSlots += s.Deferred
	}
	if p.Slots != airflow.UnlimitedSlots {
		out.OpenSlots = p.Slots - out.OccupiedSlots
	}
	return out
}

func (r *Request) poolOf(p airflow.Pool) (PoolResponse, error) {
	slots, err := r.API.Engine.PoolStates(r.Context())
	return poolResponse(p, slots[p.Name]), err
}

func getPools(r *Request, in *listPools) (PoolCollectionResponse, error) {
	name := func(p airflow.Pool) SortKey { return ByText(p.Name) }
	match, prefix := Pattern(in.Name), Prefix(in.NamePrefix)
	read := func(ctx context.Context, cursor string, limit int) ([]airflow.Pool, string, error) {
		return r.API.Store.ListPoolsPage(ctx, onePrefix(in.NamePrefix), store.ListOptions{Limit: limit, Cursor: cursor})
	}
	o := Orders[airflow.Pool]{By: map[string]func(airflow.Pool) SortKey{"id": name, "pool": name, "name": name}, Default: []string{"id"}, ID: name}
	p, err := List(r, in.query(in.Ordering), o, read, func(p airflow.Pool) bool { return match(p.Name) && prefix(p.Name) })
	out := PoolCollectionResponse{Pools: []PoolResponse{}, Total: p.Total, TotalLimit: p.TotalLimit, Next: p.Next}
	if err != nil || len(p.Items) == 0 {
		return out, err
	}
	slots, err := r.API.Engine.PoolStates(r.Context())
	for _, x := range p.Items {
		out.Pools = append(out.Pools, poolResponse(x, slots[x.Name]))
	}
	return out, err
}

// newPool makes a pool; what waits for it is looked at again.
func (r *Request) newPool(p airflow.Pool) error {
	if err := r.API.Store.CreatePool(r.Context(), p); err != nil {
		return err
	}
	return r.API.Engine.PutPool(r.Context(), p)
}

func (r *Request) removePool(name string) error {
	if name == airflow.DefaultPool {
		return BadRequest("Default Pool can't be deleted")
	}
	return noPool(r.API.Engine.DeletePool(r.Context(), name), name)
}

// changePool changes a pool. Without a mask the name, the slots and
// include_deferred have to be there, as in Airflow; another name renames it.
func (r *Request) changePool(name string, b *PoolPatchBody, mask []string) (airflow.Pool, error) {
	if name == airflow.DefaultPool {
		ok := len(mask) > 0
		for _, m := range mask {
			m = strings.TrimSpace(m)
			ok = ok && (m == "slots" || m == "include_deferred")
		}
		if !ok {
			return airflow.Pool{}, BadRequest("Only slots and included_deferred can be modified on Default Pool")
		}
	}
	p, err := r.API.Store.GetPool(r.Context(), name)
	if err != nil {
		return p, noPool(err, name)
	}
	if len(mask) == 0 {
		var ps problems
		need := func(field string, set, null bool, typ, msg string) {
			switch {
			case !set:
				ps.add("missing", []any{field}, r.RawBody, nil, "Field required")
			case null:
				ps.add(typ, []any{field}, nil, nil, "%s", msg)
			}
		}
		need("pool", b.Pool.Set, b.Pool.Null, "string_type", "Input should be a valid string")
		need("slots", b.Slots.Set, b.Slots.Null, "int_type", "Input should be a valid integer")
		need("include_deferred", b.IncludeDeferred.Set, b.IncludeDeferred.Null, "bool_type", "Input should be a valid boolean")
		if ps != nil {
			return p, Invalid(ps...)
		}
	}
	touched := func(field string) bool {
		if len(mask) == 0 {
			return true
		}
		for _, m := range mask {
			if strings.TrimSpace(m) == field {
				return true
			}
		}
		return false
	}
	if touched("slots") && b.Slots.Ptr() != nil {
		p.Slots = b.Slots.V
	}
	if touched("include_deferred") && b.IncludeDeferred.Ptr() != nil {
		p.IncludeDeferred = b.IncludeDeferred.V
	}
	if touched("description") && b.Description.Set {
		p.Description = b.Description.V
	}
	if (touched("pool") || touched("name")) && b.Pool.Ptr() != nil && b.Pool.V != name {
		p.Name = b.Pool.V
		if err := r.newPool(p); err != nil {
			if errors.Is(err, airflow.ErrAlreadyExists) {
				return p, NotUnique("UNIQUE constraint failed: slot_pool.pool: %s", p.Name)
			}
			return p, err
		}
		return p, unlessNotFound(r.API.Engine.DeletePool(r.Context(), name))
	}
	return p, r.API.Engine.PutPool(r.Context(), p)
}

var poolBulk = bulkOf[PoolBody]{
	what: "pools with these pool names", name: func(b *PoolBody) string { return b.Name },
	exists: func(r *Request, name string) (bool, error) {
		_, err := r.API.Store.GetPool(r.Context(), name)
		return err == nil, unlessNotFound(err)
	},
	put: func(r *Request, b *PoolBody) error { return r.API.Engine.PutPool(r.Context(), b.pool()) },
	update: func(r *Request, b *PoolBody, raw json.RawMessage, mask []string) error {
		touches, err := masks(mask, raw)
		if err != nil {
			return err
		}
		p, err := r.API.Store.GetPool(r.Context(), b.Name)
		if err != nil {
			return err
		}
		now := b.pool()
		if touches("slots") {
			p.Slots = now.Slots
		}
		if touches("include_deferred") {
			p.IncludeDeferred = now.IncludeDeferred
		}
		if touches("description") && b.Name != airflow.DefaultPool {
			p.Description = now.Description
		}
		return r.API.Engine.PutPool(r.Context(), p)
	},
	remove: func(r *Request, name string) error { return r.removePool(name) },
}
