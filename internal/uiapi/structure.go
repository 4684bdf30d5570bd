package uiapi

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/scheduler"
)

// node is a row of the grid: a task, or a group before its members.
type node struct {
	ID          string `json:"id"`
	Label       string `json:"label"`
	Depth       int    `json:"depth"`
	Parent      int    `json:"parent"` // index of the group's row, -1 at the top
	Group       bool   `json:"group,omitempty"`
	Mapped      bool   `json:"mapped,omitempty"`
	Operator    string `json:"operator,omitempty"`
	TriggerRule string `json:"trigger_rule,omitempty"` // if not all_success
	Setup       bool   `json:"setup,omitempty"`
	Teardown    bool   `json:"teardown,omitempty"`
	Downstream  []int  `json:"downstream,omitempty"` // rows of tasks
	Tooltip     string `json:"tooltip,omitempty"`
}

type structure struct {
	DagID         airflow.DagID `json:"dag_id"`
	Structure     string        `json:"structure"` // changes when the DAG version does
	VersionNumber int           `json:"version_number"`
	Nodes         []node        `json:"nodes"`
}

// structure answers the rows of the grid and the edges of the graph, of the latest
// version of a DAG or of one given as version_number.
func (a *api) structure(r *http.Request) (any, error) {
	m, err := a.dag(r, "task")
	if err != nil {
		return nil, err
	}
	hash, number := m.LatestHash, m.LatestVersion
	if s := r.URL.Query().Get("version_number"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, invalid("version_number: expected a number, not " + s)
		}
		v, err := a.Store.GetDagVersion(r.Context(), m.DagID, n)
		if err != nil {
			return nil, err
		}
		hash, number = v.Hash, v.Number
	}
	g, err := a.Engine.Graph(r.Context(), hash)
	if err != nil {
		return nil, err
	}
	return structure{DagID: m.DagID, Structure: hash, VersionNumber: number, Nodes: nodesOf(g)}, nil
}

// nodesOf lists rows in topological order, members right after their group.
func nodesOf(g *scheduler.Graph) []node {
	rank := ranks(g)
	var out []node
	row := map[airflow.TaskID]int{}
	var add func(tg *airflow.TaskGroup, parent, depth int)
	add = func(tg *airflow.TaskGroup, parent, depth int) {
		children := slices.Clone(tg.Children)
		slices.SortStableFunc(children, func(x, y airflow.GroupChild) int { return cmp.Compare(rank.child(x), rank.child(y)) })
		for _, c := range children {
			if c.Group != nil {
				label := cmp.Or(c.Group.DisplayName, string(c.Group.GroupID))
				if c.Group.DisplayName == "" || c.Group.DisplayName == string(c.Group.GroupID) {
					label = ownName(string(c.Group.GroupID), string(tg.GroupID))
				}
				out = append(out, node{ID: string(c.Group.GroupID), Label: label, Depth: depth, Parent: parent, Group: true, Mapped: c.Group.IsMapped, Tooltip: c.Group.Tooltip})
				add(c.Group, len(out)-1, depth+1)
				continue
			}
			i := g.TaskIndex(c.TaskID)
			if i < 0 {
				continue
			}
			t := g.Tasks[i].Task
			n := node{ID: string(t.TaskID), Depth: depth, Parent: parent, Mapped: g.MayBeMapped(i), Operator: cmp.Or(t.OperatorName, t.TaskType), Setup: t.IsSetup, Teardown: t.IsTeardown}
			n.Label = t.DisplayName
			if n.Label == "" || n.Label == n.ID {
				n.Label = ownName(n.ID, string(tg.GroupID))
			}
			if t.TriggerRule != "" && t.TriggerRule != "all_success" {
				n.TriggerRule = string(t.TriggerRule)
			}
			row[t.TaskID] = len(out)
			out = append(out, n)
		}
	}
	if g.DAG.TaskGroup != nil {
		add(g.DAG.TaskGroup, -1, 0)
	}
	for i := range g.Tasks {
		from, ok := row[g.Tasks[i].ID]
		if !ok {
			continue
		}
		for _, d := range g.Tasks[i].Downstream {
			if to, ok := row[g.Tasks[d].ID]; ok {
				out[from].Downstream = append(out[from].Downstream, to)
			}
		}
		slices.Sort(out[from].Downstream)
	}
	return out
}

// ownName is an id without the prefix of its group.
func ownName(id, group string) string {
	if group != "" && len(id) > len(group)+1 && id[:len(group)+1] == group+"." {
		return id[len(group)+1:]
	}
	return id
}

type ranking struct {
	task map[airflow.TaskID]int
}

// ranks numbers the tasks: a task comes after all of its upstream, else in order of definition.
func ranks(g *scheduler.Graph) ranking {
	r := ranking{task: make(map[airflow.TaskID]int, len(g.Tasks))}
	waiting := make([]int, len(g.Tasks))
	for i := range g.Tasks {
		waiting[i] = len(g.Tasks[i].Upstream)
	}
	var ready []int
	for i, n := range waiting {
		if n == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		r.task[g.Tasks[i].ID] = len(r.task)
		for _, d := range g.Tasks[i].Downstream {
			if waiting[d]--; waiting[d] == 0 {
				ready = append(ready, int(d))
			}
		}
	}
	return r
}

func (r ranking) child(c airflow.GroupChild) int {
	if c.Group == nil {
		return r.task[c.TaskID]
	}
	first := len(r.task)
	for _, cc := range c.Group.Children {
		first = min(first, r.child(cc))
	}
	return first
}
