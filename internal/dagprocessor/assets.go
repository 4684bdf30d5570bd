package dagprocessor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/store"
	"github.com/gustflow/gust/internal/timetable"
)

// Aliases and references are kept among the assets, under uris that no asset
// can have: their scheme is reserved.
const (
	// AliasURI is the uri of the record of an asset alias; its name is the alias's.
	AliasURI = "airflow-alias:"
	// NameRefURI and URIRefURI are those of Asset.ref(name=…) and (uri=…); the
	// record's name is what is referred to.
	NameRefURI = "airflow-ref:name"
	URIRefURI  = "airflow-ref:uri"
)

// IsAsset reports whether a record is of an asset and not of an alias or reference.
func IsAsset(k store.AssetKey) bool {
	return k.URI != AliasURI && k.URI != NameRefURI && k.URI != URIRefURI
}

// assetUse is what a DAG has to do with an asset.
type assetUse struct {
	asset     airflow.Asset
	scheduled bool
	producers []airflow.TaskID // sorted
}

type assetUses map[store.AssetKey]*assetUse

func (u assetUses) at(a airflow.Asset) *assetUse {
	k := store.AssetKey{Name: a.Name, URI: a.URI}
	if u[k] == nil {
		u[k] = &assetUse{asset: a}
	}
	return u[k]
}

// usesOf returns the assets that a DAG names in its schedule, outlets and inlets.
func usesOf(dag *airflow.DAG) assetUses {
	uses := assetUses{}
	if dag == nil {
		return uses
	}
	if len(dag.Timetable) > 0 {
		// A timetable that cannot be read was refused when the file was parsed.
		if tt, err := timetable.Parse(dag.Timetable); err == nil {
			uses.condition(tt.AssetCondition())
		}
	}
	for _, t := range dag.Tasks {
		for _, o := range t.Outlets {
			if a, ok := assetOf(o); ok {
				u := uses.at(a)
				if i, found := slices.BinarySearch(u.producers, t.TaskID); !found {
					u.producers = slices.Insert(u.producers, i, t.TaskID)
				}
			}
		}
		for _, in := range t.Inlets {
			if a, ok := assetOf(in); ok {
				uses.at(a)
			}
		}
	}
	return uses
}

// condition adds the assets of a decoded asset condition.
func (u assetUses) condition(v any) {
	m, ok := v.(map[string]any)
	if !ok {
		return
	}
	if objects, ok := m["objects"].([]any); ok {
		for _, o := range objects {
			u.condition(o)
		}
		return
	}
	text := func(key string) string { s, _ := m[key].(string); return s }
	ref := airflow.AssetRef{Type: text("__type"), Name: text("name"), URI: text("uri"), Group: text("group")}
	if extra, ok := m["extra"]; ok && extra != nil {
		if b, err := json.Marshal(extra); err == nil {
			ref.Extra = b
		}
	}
	if a, ok := assetOf(ref); ok {
		u.at(a).scheduled = true
	}
}

// assetOf returns the asset under which a reference is recorded.
func assetOf(r airflow.AssetRef) (airflow.Asset, bool) {
	switch r.Type {
	case "asset":
		a := airflow.Asset{Name: r.Name, URI: r.URI, Group: r.Group, Extra: r.Extra}
		setDefault(&a.Name, a.Name == "", a.URI)
		setDefault(&a.URI, a.URI == "", a.Name)
		setDefault(&a.Group, a.Group == "", "asset")
		return a, a.Name != ""
	case "asset_alias":
		return airflow.Asset{Name: r.Name, URI: AliasURI, Group: "asset"}, r.Name != ""
	case "asset_ref":
		if r.Name != "" {
			return airflow.Asset{Name: r.Name, URI: NameRefURI, Group: "asset"}, true
		}
		return airflow.Asset{Name: r.URI, URI: URIRefURI, Group: "asset"}, r.URI != ""
	}
	return airflow.Asset{}, false
}

// assetIndex is what the Store has of assets.
type assetIndex struct {
	mu      sync.Mutex
	records map[store.AssetKey]store.AssetRecord
	byName  map[string][]store.AssetKey // assets only
	byURI   map[string][]store.AssetKey
}

func newAssetIndex(records []store.AssetRecord) *assetIndex {
	x := &assetIndex{records: map[store.AssetKey]store.AssetRecord{}, byName: map[string][]store.AssetKey{}, byURI: map[string][]store.AssetKey{}}
	for _, r := range records {
		x.put(r)
	}
	return x
}

func (x *assetIndex) put(r store.AssetRecord) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := store.AssetKey{Name: r.Name, URI: r.URI}
	if _, known := x.records[k]; !known && IsAsset(k) {
		x.byName[k.Name] = append(x.byName[k.Name], k)
		x.byURI[k.URI] = append(x.byURI[k.URI], k)
	}
	x.records[k] = r
}

// referredTo returns the assets that a reference means.
func (x *assetIndex) referredTo(k store.AssetKey) []store.AssetKey {
	switch k.URI {
	case NameRefURI:
		return x.byName[k.Name]
	case URIRefURI:
		return x.byURI[k.Name]
	}
	return nil
}

// assetChange is what a batch of DAGs changes of one asset.
type assetChange struct {
	asset    *airflow.Asset // its latest definition; nil if none was seen
	schedule map[airflow.DagID]bool
	produce  map[store.AssetProducer]bool // true = add, false = remove
}

type assetChanges map[store.AssetKey]*assetChange

func (c assetChanges) at(k store.AssetKey) *assetChange {
	if c[k] == nil {
		c[k] = &assetChange{schedule: map[airflow.DagID]bool{}, produce: map[store.AssetProducer]bool{}}
	}
	return c[k]
}

// dagAssets is a DAG whose assets may have changed; now is nil for a stale one.
type dagAssets struct {
	id       airflow.DagID
	old, now assetUses
}

// changesOf computes what DAGs change; assets new to the index are announced in it.
func (x *assetIndex) changesOf(dags []dagAssets) assetChanges {
	changes := assetChanges{}
	for _, d := range dags {
		for k, u := range d.now {
			a := u.asset
			changes.at(k).asset = &a
		}
	}
	// References mean assets of the same batch too, and references of other DAGs
	// mean assets that appear now.
	for _, k := range sortedAssets(changes) {
		if _, known := x.records[k]; known || !IsAsset(k) {
			continue
		}
		// Without a group it is known not to be in the Store.
		x.put(store.AssetRecord{Asset: airflow.Asset{Name: k.Name, URI: k.URI}})
		for _, ref := range []store.AssetKey{{Name: k.Name, URI: NameRefURI}, {Name: k.URI, URI: URIRefURI}} {
			for _, id := range x.records[ref].ScheduledDags {
				changes.at(k).schedule[id] = true
			}
			for _, p := range x.records[ref].Producers {
				changes.at(k).produce[p] = true
			}
		}
	}
	for _, d := range dags {
		x.apply(changes, d.id, d.old, false)
	}
	for _, d := range dags {
		x.apply(changes, d.id, d.now, true) // after what is removed: it wins
	}
	return changes
}

func (x *assetIndex) apply(changes assetChanges, id airflow.DagID, uses assetUses, add bool) {
	for k, u := range uses {
		for _, target := range append([]store.AssetKey{k}, x.referredTo(k)...) {
			c := changes.at(target)
			if u.scheduled {
				c.schedule[id] = add
			}
			for _, t := range u.producers {
				c.produce[store.AssetProducer{DagID: id, TaskID: t}] = add
			}
		}
	}
}

// change applies c to a record; repeating it changes nothing.
func (c *assetChange) change(r *store.AssetRecord) {
	if c.asset != nil {
		r.Group, r.Extra = c.asset.Group, c.asset.Extra
	}
	r.ScheduledDags = merge(r.ScheduledDags, c.schedule, func(a, b airflow.DagID) int { return strings.Compare(string(a), string(b)) })
	r.Producers = merge(r.Producers, c.produce, func(a, b store.AssetProducer) int {
		if n := strings.Compare(string(a.DagID), string(b.DagID)); n != 0 {
			return n
		}
		return strings.Compare(string(a.TaskID), string(b.TaskID))
	})
}

// merge returns list with the entries of set added (true) or removed, sorted.
func merge[T comparable](list []T, set map[T]bool, compare func(a, b T) int) []T {
	var out []T
	for _, v := range list {
		if keep, named := set[v]; keep || !named {
			out = append(out, v)
		}
	}
	for v, add := range set {
		if add {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out)
}

func sortedAssets[V any](m map[store.AssetKey]V) []store.AssetKey {
	keys := make([]store.AssetKey, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		if keys[i].Name != keys[j].Name {
			return keys[i].Name < keys[j].Name
		}
		return keys[i].URI < keys[j].URI
	})
	return keys
}

// updateAssets writes what DAGs change of assets, one write per asset however
// many DAGs name it, and settles which assets are active.
func (p *Processor) updateAssets(ctx context.Context, dags []dagAssets) error {
	changes := p.assets.changesOf(dags)
	wasActive := map[store.AssetKey]bool{}
	for k := range changes {
		wasActive[k] = p.assets.records[k].Active()
	}
	if err := p.writeAssets(ctx, changes); err != nil {
		return err
	}
	var touched []store.AssetKey
	for _, k := range sortedAssets(changes) {
		if IsAsset(k) {
			touched = append(touched, k)
		}
	}
	return p.settleAssets(ctx, touched, wasActive)
}

func (p *Processor) writeAssets(ctx context.Context, changes assetChanges) error {
	keys := sortedAssets(changes)
	errs := make([]error, len(keys))
	forEach(len(keys), storeParallelism, func(i int) {
		k, c := keys[i], changes[keys[i]]
		have, known := p.assets.record(k)
		want := have
		c.change(&want)
		if known && have.Group != "" && sameJSON(have, want) {
			return
		}
		a := airflow.Asset{Name: k.Name, URI: k.URI}
		if c.asset != nil {
			a = *c.asset
		}
		r, err := p.cfg.Store.UpsertAsset(ctx, a, func(r *store.AssetRecord) error { c.change(r); return nil })
		if err != nil {
			errs[i] = fmt.Errorf("asset %q: %w", k.Name, err)
			return
		}
		p.assets.put(r)
	})
	return errors.Join(errs...)
}

func (x *assetIndex) record(k store.AssetKey) (store.AssetRecord, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r, ok := x.records[k]
	return r, ok
}

// settleAssets decides which of the assets that share a name or uri with those
// given are active: the one that was first stays. wasActive says of assets that
// were written now what they were before.
func (p *Processor) settleAssets(ctx context.Context, keys []store.AssetKey, wasActive map[store.AssetKey]bool) error {
	x := p.assets
	group := map[store.AssetKey]bool{}
	for _, k := range keys {
		for _, other := range append(slices.Clone(x.byName[k.Name]), x.byURI[k.URI]...) {
			group[other] = true
		}
	}
	order := sortedAssets(group)
	// Those that were active go first, so that they stay; then by name and uri.
	active := func(k store.AssetKey) bool {
		was, written := wasActive[k]
		return was || !written && x.records[k].Active()
	}
	sort.SliceStable(order, func(i, j int) bool { return active(order[i]) && !active(order[j]) })
	names, uris := map[string]store.AssetKey{}, map[string]store.AssetKey{}
	for _, k := range order {
		r := x.records[k]
		reason := ""
		if len(r.ScheduledDags)+len(r.Producers) > 0 {
			reason = x.conflict(k, names, uris)
			if reason == "" {
				names[k.Name], uris[k.URI] = k, k
			}
		}
		if reason == r.Inactive {
			continue
		}
		if reason != "" {
			p.cfg.Log.Warn("asset conflict", "asset", k.Name, "uri", k.URI, "reason", reason)
		}
		r, err := p.cfg.Store.UpsertAsset(ctx, r.Asset, func(r *store.AssetRecord) error { r.Inactive = reason; return nil })
		if err != nil {
			return fmt.Errorf("asset %q: %w", k.Name, err)
		}
		x.put(r)
	}
	return nil
}

// conflict says which active asset has the name or the uri of k.
func (x *assetIndex) conflict(k store.AssetKey, names, uris map[string]store.AssetKey) string {
	if other, taken := names[k.Name]; taken {
		return fmt.Sprintf("another active asset has the name %q, with the uri %q: name and uri must be unique; this one is inactive", k.Name, other.URI)
	}
	if other, taken := uris[k.URI]; taken {
		return fmt.Sprintf("another active asset has the uri %q, with the name %q: name and uri must be unique; this one is inactive", k.URI, other.Name)
	}
	return ""
}

func sameJSON(a, b any) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && bytes.Equal(x, y)
}
