package scheduler

import (
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

// Graph is one version of a DAG compiled for deciding: indexes instead of ids,
// with everything that only depends on the DAG worked out once. It is immutable
// and may be shared between goroutines and runs.
type Graph struct {
	DAG   *airflow.DAG
	Tasks []Node // in order of definition
	// Groups are the task groups in order of definition, parents first; Groups[0] is the root.
	Groups []Group

	byID      map[airflow.TaskID]int32
	groupByID map[airflow.GroupID]int32
	leaves    []int32 // tasks whose states decide the run's state, ascending
	up, down  []bits  // transitive relatives by task
	// hasPast is set when some task depends on the previous run.
	hasPast bool
}

// Node is a task of a Graph. All task indexes are positions in Graph.Tasks; all
// index lists are ascending.
type Node struct {
	Task       *airflow.Task
	ID         airflow.TaskID
	Upstream   []int32 // direct
	Downstream []int32 // direct
	Group      int32   // innermost group

	// Weight is the effective priority weight (priority_weight and weight_rule applied).
	Weight int64

	// Mapped says that the task itself expands (a MappedOperator).
	Mapped bool
	// MappedGroups are the mapped groups around the task, innermost first.
	MappedGroups []int32
	// DirectGroupMapped says that the innermost group itself is a mapped one.
	DirectGroupMapped bool
	// Sources are the tasks that provide what the task expands over, or, for an
	// unmapped task in a mapped group, what its closest mapped group expands over.
	Sources []int32
	// ExpandedBy are the tasks that have this one among the sources of their
	// expansion (their own or that of a mapped group around them).
	ExpandedBy []int32
	// Setups are the relevant setups that are not direct upstreams.
	Setups []int32
	// Scope are, for a teardown, the tasks between its setups and itself that are
	// not direct upstreams: it waits for them too.
	Scope []int32
	// SetupOf are the tasks that have this one among their Setups or in their Scope.
	SetupOf []int32
	// SkipParents are the direct upstreams that can skip what is below them.
	SkipParents []int32

	expand         *expansion
	fast           bool // one_success, one_failed, one_done
	limited        bool // depends_on_past or a per-task concurrency limit: no deadlock test
	leaf           bool
	shortcut       bool // EmptyOperator that goes straight to success
	simpleUpstream bool // no upstream is mapped or in a mapped group
	simpleSetups   bool
	setupUpstream  int32   // direct upstreams that are setups
	allSources     []int32 // own sources and those of every mapped group around, ascending
}

// Group is a task group of a Graph.
type Group struct {
	ID       airflow.GroupID
	Parent   int32 // -1 for the root
	Mapped   bool
	Expand   *expansion // nil unless mapped
	Tasks    []int32    // direct members
	Children []int32    // nested groups
	// Roots are the tasks, at any depth, without an upstream inside the group.
	Roots []int32
	// MappedGroups are this group, if mapped, and the mapped groups around it, innermost first.
	MappedGroups []int32
}

// TaskIndex returns the position of a task in g.Tasks, or -1.
func (g *Graph) TaskIndex(id airflow.TaskID) int {
	if i, ok := g.byID[id]; ok {
		return int(i)
	}
	return -1
}

// needsExpansion reports whether instances of the task may carry a map_index.
func (n *Node) needsExpansion() bool { return n.Mapped || len(n.MappedGroups) > 0 }

// Micros is a time in microseconds since the Unix epoch, Airflow's resolution;
// 0 means not set.
type Micros int64

// At converts a time; the zero time is 0.
func At(t time.Time) Micros {
	if t.IsZero() {
		return 0
	}
	return Micros(t.UnixMicro())
}

// Time converts back, in UTC; 0 is the zero time.
func (m Micros) Time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(m)).UTC()
}
