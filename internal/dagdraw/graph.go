// Package dagdraw draws DAGs: as text for a terminal, and as DOT, SVG and
// Mermaid; and a run as a Gantt chart in text. It is pure: the same DAG gives
// the same drawing.
package dagdraw

import (
	"sort"

	"github.com/gustflow/gust/internal/airflow"
)

// node is a task, or a bend of an edge that passes a layer (label "").
type node struct {
	id    airflow.TaskID
	label string
	group string // outermost task group, "" for none
	layer int
	order int
	dummy bool
	state *airflow.TIState
}

type edge struct {
	from, to int
	label    string
}

type graph struct {
	nodes []node
	edges []edge // between neighbouring layers once layered
	// layers hold node indexes in order.
	layers [][]int
	groups []string // top-level groups in order of definition
}

// build makes the graph of a DAG's tasks, in order of definition.
func build(d *airflow.DAG, states map[airflow.TaskID]airflow.TIState) *graph {
	g := &graph{}
	top := map[airflow.TaskID]string{}
	if d.TaskGroup != nil {
		for _, c := range d.TaskGroup.Children {
			if c.Group == nil {
				continue
			}
			name := string(c.Group.GroupID)
			g.groups = append(g.groups, name)
			c.Group.Walk(func(sub, _ *airflow.TaskGroup) {
				for _, cc := range sub.Children {
					if cc.TaskID != "" {
						top[cc.TaskID] = name
					}
				}
			})
		}
	}
	index := map[airflow.TaskID]int{}
	for _, t := range d.Tasks {
		n := node{id: t.TaskID, label: label(t), group: top[t.TaskID]}
		if s, ok := states[t.TaskID]; ok {
			n.state = &s
		}
		index[t.TaskID] = len(g.nodes)
		g.nodes = append(g.nodes, n)
	}
	for i, t := range d.Tasks {
		for _, down := range t.Downstream {
			if j, ok := index[down]; ok {
				g.edges = append(g.edges, edge{i, j, d.EdgeInfo[t.TaskID][down].Label})
			}
		}
	}
	return g
}

// label is a task's name with marks: [] mapped, ⤒ setup, ⤓ teardown.
func label(t *airflow.Task) string {
	s := string(t.TaskID)
	if t.IsMapped || t.NeedsExpansion {
		s += " []"
	}
	if t.IsSetup {
		s = "⤒ " + s
	}
	if t.IsTeardown {
		s = "⤓ " + s
	}
	return s
}

// assignLayers puts each node one layer below its lowest predecessor, and
// splits edges that span several layers.
func (g *graph) assignLayers() {
	in := make([]int, len(g.nodes))
	down := make([][]int, len(g.nodes))
	for _, e := range g.edges {
		in[e.to]++
		down[e.from] = append(down[e.from], e.to)
	}
	var ready []int
	for i := range g.nodes {
		if in[i] == 0 {
			ready = append(ready, i)
		}
	}
	for len(ready) > 0 {
		n := ready[0]
		ready = ready[1:]
		for _, m := range down[n] {
			g.nodes[m].layer = max(g.nodes[m].layer, g.nodes[n].layer+1)
			if in[m]--; in[m] == 0 {
				ready = append(ready, m)
			}
		}
	}
	var short []edge
	for _, e := range g.edges {
		from, label := e.from, e.label
		for l := g.nodes[e.from].layer + 1; l < g.nodes[e.to].layer; l++ {
			g.nodes = append(g.nodes, node{layer: l, dummy: true})
			bend := len(g.nodes) - 1
			short = append(short, edge{from, bend, label})
			from, label = bend, ""
		}
		short = append(short, edge{from, e.to, label})
	}
	g.edges = short
	for i, n := range g.nodes {
		for len(g.layers) <= n.layer {
			g.layers = append(g.layers, nil)
		}
		g.nodes[i].order = len(g.layers[n.layer])
		g.layers[n.layer] = append(g.layers[n.layer], i)
	}
}

// neighbours returns, per node, its neighbours in the layer before and after.
func (g *graph) neighbours() (up, down [][]int) {
	up, down = make([][]int, len(g.nodes)), make([][]int, len(g.nodes))
	for _, e := range g.edges {
		down[e.from] = append(down[e.from], e.to)
		up[e.to] = append(up[e.to], e.from)
	}
	return up, down
}

// reorder sorts the nodes of each layer by the mean place of their neighbours,
// to have few crossings.
func (g *graph) reorder() {
	up, down := g.neighbours()
	sweep := func(layer []int, side [][]int) {
		key := map[int]float64{}
		for _, n := range layer {
			key[n] = float64(g.nodes[n].order)
			if len(side[n]) > 0 {
				sum := 0.0
				for _, m := range side[n] {
					sum += float64(g.nodes[m].order)
				}
				key[n] = sum / float64(len(side[n]))
			}
		}
		sort.SliceStable(layer, func(i, j int) bool { return key[layer[i]] < key[layer[j]] })
		for i, n := range layer {
			g.nodes[n].order = i
		}
	}
	for range 4 {
		for l := 1; l < len(g.layers); l++ {
			sweep(g.layers[l], up)
		}
		for l := len(g.layers) - 2; l >= 0; l-- {
			sweep(g.layers[l], down)
		}
	}
}

// place returns the first coordinate of each node across its layer: near its
// neighbours, in order, at least gap apart. size is a node's extent.
func (g *graph) place(size func(node) int, gap int) []int {
	up, down := g.neighbours()
	pos := make([]float64, len(g.nodes))
	for _, layer := range g.layers {
		at := 0
		for _, n := range layer {
			pos[n] = float64(at)
			at += size(g.nodes[n]) + gap
		}
	}
	centre := func(n int) float64 { return pos[n] + float64(size(g.nodes[n])-1)/2 }
	align := func(layer []int, side [][]int) {
		want := make([]float64, len(layer))
		offset := make([]float64, len(layer))
		at := 0.0
		for i, n := range layer {
			offset[i] = at
			at += float64(size(g.nodes[n]) + gap)
			want[i] = pos[n]
			if len(side[n]) > 0 {
				sum := 0.0
				for _, m := range side[n] {
					sum += centre(m)
				}
				want[i] = sum/float64(len(side[n])) - float64(size(g.nodes[n])-1)/2
			}
			want[i] -= offset[i]
		}
		for i, v := range monotone(want) {
			pos[layer[i]] = v + offset[i]
		}
	}
	for range 6 {
		for l := 1; l < len(g.layers); l++ {
			align(g.layers[l], up)
		}
		for l := len(g.layers) - 2; l >= 0; l-- {
			align(g.layers[l], down)
		}
	}
	for l := 1; l < len(g.layers); l++ {
		align(g.layers[l], up)
	}
	low := 0.0
	for i, p := range pos {
		if i == 0 || p < low {
			low = p
		}
	}
	out := make([]int, len(pos))
	for _, layer := range g.layers {
		at := -1 << 30
		for _, n := range layer {
			// Rounding must not make neighbours overlap.
			at = max(at, int(pos[n]-low+0.5))
			out[n] = at
			at += size(g.nodes[n]) + gap
		}
	}
	return out
}

// monotone returns the non-decreasing sequence nearest to v (pool adjacent violators).
func monotone(v []float64) []float64 {
	type block struct {
		sum   float64
		count int
	}
	var bs []block
	for _, x := range v {
		bs = append(bs, block{x, 1})
		for len(bs) > 1 {
			a, b := bs[len(bs)-2], bs[len(bs)-1]
			if a.sum/float64(a.count) <= b.sum/float64(b.count) {
				break
			}
			bs = append(bs[:len(bs)-2], block{a.sum + b.sum, a.count + b.count})
		}
	}
	out := make([]float64, 0, len(v))
	for _, b := range bs {
		for range b.count {
			out = append(out, b.sum/float64(b.count))
		}
	}
	return out
}
