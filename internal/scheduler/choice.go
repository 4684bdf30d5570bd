package scheduler

import (
	"fmt"

	"github.com/gustflow/gust/internal/airflow"
)

// choose carries out what a branching task decided: it remembers the decision
// and skips, at once, what it rules out. An instance with a map index skips
// nothing: what is below it looks the decision up later. The answer is "" or why
// the choice is not valid.
func (a *applier) choose(n *Node, c *SkipChoice, end Micros) string {
	task := a.ti().Task
	var skip []int32
	memory := Skipped{}
	switch c.Kind {
	case ChoiceBranch:
		keep, problem := a.g.followed(task, c.Follow)
		if problem != "" {
			return problem
		}
		if len(n.Downstream) == 0 {
			return ""
		}
		memory.Followed = true
		for _, d := range n.Downstream {
			if keep.has(d) {
				memory.Tasks = append(memory.Tasks, a.g.Tasks[d].ID)
			} else {
				skip = append(skip, d)
			}
		}
	case ChoiceShortCircuit, ChoiceSkipDirect:
		if c.Kind == ChoiceSkipDirect || c.DirectOnly {
			skip = append(skip, n.Downstream...)
		} else {
			a.g.down[task].each(func(d int32) { skip = append(skip, d) })
		}
		if c.Kind == ChoiceShortCircuit {
			kept := skip[:0]
			for _, d := range skip {
				if !a.g.Tasks[d].Task.IsTeardown {
					kept = append(kept, d)
				}
			}
			skip = kept
		}
		if len(skip) == 0 {
			return ""
		}
		for _, d := range skip {
			memory.Tasks = append(memory.Tasks, a.g.Tasks[d].ID)
		}
	default:
		return fmt.Sprintf("skip choice kind %d is unknown", c.Kind)
	}
	a.rs.remember(a.g, a.pos, memory)
	if a.ti().MapIndex >= 0 {
		return ""
	}
	for _, d := range skip {
		pos := a.rs.tasks[d].unexpanded
		if pos < 0 {
			continue // already expanded: its trigger rule or the memory decides
		}
		switch a.rs.ti(pos).State {
		case airflow.TIRunning, airflow.TISuccess, airflow.TIFailed, airflow.TISkipped:
		default:
			a.take(pos, airflow.TISkipped, CodeBranch, end)
		}
	}
	return ""
}

// remember stores a decision under Airflow's skipmixin_key.
func (rs *RunState) remember(g *Graph, pos int32, m Skipped) {
	if rs.skips == nil {
		rs.skips = map[int32]Skipped{}
	}
	rs.skips[pos] = m
	rs.touch(pos)
	rs.markDependents(g, pos)
}

// followed are the chosen tasks, the roots of chosen groups, and everything
// below them.
func (g *Graph) followed(task int32, ids []string) (bits, string) {
	keep := newBits(len(g.Tasks))
	var unknown []string
	for _, id := range ids {
		if i, ok := g.byID[airflow.TaskID(id)]; ok {
			keep.set(i)
			keep.or(g.down[i])
			continue
		}
		gi, ok := g.groupByID[airflow.GroupID(id)]
		if !ok || id == "" {
			unknown = append(unknown, id)
			continue
		}
		for _, r := range g.Groups[gi].Roots {
			keep.set(r)
			keep.or(g.down[r])
		}
	}
	if unknown != nil {
		return nil, fmt.Sprintf("task %s chose to follow %q: no task or task group of DAG %q has that id", g.Tasks[task].ID, unknown, g.DAG.DagID)
	}
	return keep, ""
}
