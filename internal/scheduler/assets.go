package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// AssetCondition is the expression a DAG is scheduled on.
type AssetCondition struct {
	Kind AssetConditionKind
	// Name and URI identify an asset, an alias (Name) or a reference (either).
	Name, URI string
	Objects   []AssetCondition // of all and any
}

// AssetConditionKind is the kind of a node of an AssetCondition.
type AssetConditionKind string

// The kinds of AssetCondition, by Airflow's serialized names.
const (
	AssetOne   AssetConditionKind = "asset"
	AssetAlias AssetConditionKind = "asset_alias"
	AssetAll   AssetConditionKind = "asset_all"
	AssetAny   AssetConditionKind = "asset_any"
	AssetRef   AssetConditionKind = "asset_ref"
)

// QueuedAsset is an asset that was updated since the DAG's last asset-triggered run.
type QueuedAsset struct {
	Name, URI string
	// Aliases are the names of the aliases through which events reached it.
	Aliases   []string
	CreatedAt time.Time // of the queue row: the first event that waits
}

// PendingAssetEvent is an asset event that a run may consume.
type PendingAssetEvent struct {
	ID        string
	Name, URI string
	Aliases   []string
	Timestamp time.Time
}

// AssetRunPlan is the asset-triggered run to create.
type AssetRunPlan struct {
	Create   bool
	RunAfter time.Time
	// Consumed are ids of the events the run consumes, oldest first.
	Consumed []string
	// Waiting are the assets without an event, in order of the condition.
	Waiting []AssetCondition
}

// AssetConditionOf reads the asset condition of a DAG's timetable; ok is false if
// the DAG waits for no asset.
func AssetConditionOf(dag *airflow.DAG) (c AssetCondition, ok bool, err error) {
	var tt struct {
		Var struct {
			Condition json.RawMessage `json:"asset_condition"`
		} `json:"__var"`
	}
	if err := json.Unmarshal(dag.Timetable, &tt); err != nil {
		return c, false, airflow.Invalid("dag.timetable", "not a serialized timetable: %v", err)
	}
	if len(tt.Var.Condition) == 0 || string(tt.Var.Condition) == "null" {
		return c, false, nil
	}
	r := conditionReader{}
	c = r.read("dag.timetable.asset_condition", tt.Var.Condition)
	if r.problems != nil {
		return c, false, &airflow.InvalidError{Problems: r.problems}
	}
	return c, true, nil
}

type conditionReader struct{ problems []airflow.Problem }

func (r *conditionReader) read(at string, raw json.RawMessage) AssetCondition {
	var node struct {
		Type    AssetConditionKind `json:"__type"`
		Name    string             `json:"name"`
		URI     string             `json:"uri"`
		Objects []json.RawMessage  `json:"objects"`
	}
	if err := json.Unmarshal(raw, &node); err != nil {
		r.problems = append(r.problems, airflow.Problem{Field: at, Message: err.Error()})
		return AssetCondition{}
	}
	c := AssetCondition{Kind: node.Type, Name: node.Name, URI: node.URI}
	switch c.Kind {
	case AssetOne, AssetAlias, AssetRef:
	case AssetAll, AssetAny:
		for i, o := range node.Objects {
			c.Objects = append(c.Objects, r.read(fmt.Sprintf("%s.objects[%d]", at, i), o))
		}
	default:
		r.problems = append(r.problems, airflow.Problem{Field: at, Message: fmt.Sprintf("asset condition %q is unknown: expected asset, asset_alias, asset_ref, asset_all or asset_any", c.Kind)})
	}
	return c
}

// matches reports whether a leaf of a condition is about an asset.
func (c *AssetCondition) matches(name, uri string, aliases []string) bool {
	switch c.Kind {
	case AssetOne:
		return (c.Name == "" || c.Name == name) && (c.URI == "" || c.URI == uri)
	case AssetRef:
		return c.Name != "" && c.Name == name || c.URI != "" && c.URI == uri
	case AssetAlias:
		return slices.Contains(aliases, c.Name)
	}
	return false
}

// leaves calls f for every leaf, in order.
func (c *AssetCondition) leaves(f func(*AssetCondition)) {
	if c.Kind != AssetAll && c.Kind != AssetAny {
		f(c)
		return
	}
	for i := range c.Objects {
		c.Objects[i].leaves(f)
	}
}

// EvaluateAssets reports whether a condition holds over the queued assets: an
// asset or reference holds if a queue row is about it, an alias if a row came
// through it.
func EvaluateAssets(c AssetCondition, queued []QueuedAsset) bool {
	switch c.Kind {
	case AssetAll:
		for _, o := range c.Objects {
			if !EvaluateAssets(o, queued) {
				return false
			}
		}
		return true
	case AssetAny:
		for _, o := range c.Objects {
			if EvaluateAssets(o, queued) {
				return true
			}
		}
		return false
	}
	for _, q := range queued {
		if c.matches(q.Name, q.URI, q.Aliases) {
			return true
		}
	}
	return false
}

// PlanAssetRun says whether an asset-triggered run is due and what it consumes:
// all events of the condition's assets later than since and not later than the
// run's run_after, the newest queue row. The caller deletes all queue rows of the
// DAG, also those an OR did not need. since is the run_after of the DAG's last
// asset-triggered run, zero if there was none.
func PlanAssetRun(c AssetCondition, queued []QueuedAsset, events []PendingAssetEvent, since time.Time) AssetRunPlan {
	var plan AssetRunPlan
	c.leaves(func(l *AssetCondition) {
		if !EvaluateAssets(*l, queued) {
			plan.Waiting = append(plan.Waiting, *l)
		}
	})
	if len(queued) == 0 || !EvaluateAssets(c, queued) {
		return plan
	}
	plan.Create = true
	for _, q := range queued {
		if q.CreatedAt.After(plan.RunAfter) {
			plan.RunAfter = q.CreatedAt
		}
	}
	var taken []PendingAssetEvent
	for _, e := range events {
		if !e.Timestamp.After(since) || e.Timestamp.After(plan.RunAfter) {
			continue
		}
		aliases := e.Aliases
		for _, q := range queued {
			if q.Name == e.Name && q.URI == e.URI {
				aliases = append(slices.Clip(aliases), q.Aliases...)
			}
		}
		wanted := false
		c.leaves(func(l *AssetCondition) { wanted = wanted || l.matches(e.Name, e.URI, aliases) })
		if wanted {
			taken = append(taken, e)
		}
	}
	sort.SliceStable(taken, func(i, j int) bool {
		if !taken[i].Timestamp.Equal(taken[j].Timestamp) {
			return taken[i].Timestamp.Before(taken[j].Timestamp)
		}
		return taken[i].ID < taken[j].ID
	})
	for _, e := range taken {
		plan.Consumed = append(plan.Consumed, e.ID)
	}
	return plan
}
