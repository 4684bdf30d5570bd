package dagdraw

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"

	"github.com/gustflow/gust/internal/airflow"
)

// quote writes a DOT string.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// DOT writes a DAG in Graphviz's language, task groups as clusters.
func DOT(d *airflow.DAG, states map[airflow.TaskID]airflow.TIState) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n\tgraph [label=%s labelloc=t rankdir=LR]\n\tnode [fontname=Helvetica shape=rectangle style=\"filled,rounded\" fillcolor=white]\n", quote(string(d.DagID)), quote(string(d.DagID)))
	seen := map[airflow.TaskID]bool{}
	task := func(indent string, t *airflow.Task) {
		seen[t.TaskID] = true
		attrs := "label=" + quote(label(t)) + " tooltip=" + quote(t.TaskType)
		if s, ok := states[t.TaskID]; ok {
			attrs += " fillcolor=" + quote(stateFill(s))
		}
		fmt.Fprintf(&b, "%s%s [%s]\n", indent, quote(string(t.TaskID)), attrs)
	}
	var group func(g *airflow.TaskGroup, depth int)
	group = func(g *airflow.TaskGroup, depth int) {
		indent := strings.Repeat("\t", depth)
		for _, c := range g.Children {
			if c.Group == nil {
				if t := d.Task(c.TaskID); t != nil {
					task(indent, t)
				}
				continue
			}
			name := c.Group.DisplayName
			if name == "" {
				name = string(c.Group.GroupID)
			}
			fmt.Fprintf(&b, "%ssubgraph %s {\n%s\tlabel=%s\n%s\tstyle=rounded\n", indent, quote("cluster_"+string(c.Group.GroupID)), indent, quote(name), indent)
			group(c.Group, depth+1)
			fmt.Fprintf(&b, "%s}\n", indent)
		}
	}
	if d.TaskGroup != nil {
		group(d.TaskGroup, 1)
	}
	for _, t := range d.Tasks {
		if !seen[t.TaskID] {
			task("\t", t)
		}
	}
	for _, t := range d.Tasks {
		for _, down := range t.Downstream {
			fmt.Fprintf(&b, "\t%s -> %s", quote(string(t.TaskID)), quote(string(down)))
			if l := d.EdgeInfo[t.TaskID][down].Label; l != "" {
				fmt.Fprintf(&b, " [label=%s]", quote(l))
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// Mermaid writes a DAG as a Mermaid flowchart.
func Mermaid(d *airflow.DAG, states map[airflow.TaskID]airflow.TIState) string {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	ids := map[airflow.TaskID]string{}
	for i, t := range d.Tasks {
		ids[t.TaskID] = fmt.Sprintf("t%d", i)
	}
	text := func(s string) string { return `"` + strings.ReplaceAll(html.EscapeString(s), "#", "#35;") + `"` }
	seen := map[airflow.TaskID]bool{}
	task := func(indent string, t *airflow.Task) {
		seen[t.TaskID] = true
		fmt.Fprintf(&b, "%s%s[%s]", indent, ids[t.TaskID], text(label(t)))
		if s, ok := states[t.TaskID]; ok {
			fmt.Fprintf(&b, ":::%s", s)
		}
		b.WriteByte('\n')
	}
	groups := 0
	var group func(g *airflow.TaskGroup, depth int)
	group = func(g *airflow.TaskGroup, depth int) {
		indent := strings.Repeat("  ", depth)
		for _, c := range g.Children {
			if c.Group == nil {
				if t := d.Task(c.TaskID); t != nil {
					task(indent, t)
				}
				continue
			}
			fmt.Fprintf(&b, "%ssubgraph g%d[%s]\n", indent, groups, text(string(c.Group.GroupID)))
			groups++
			group(c.Group, depth+1)
			b.WriteString(indent + "end\n")
		}
	}
	if d.TaskGroup != nil {
		group(d.TaskGroup, 1)
	}
	for _, t := range d.Tasks {
		if !seen[t.TaskID] {
			task("  ", t)
		}
	}
	for _, t := range d.Tasks {
		for _, down := range t.Downstream {
			to, ok := ids[down]
			if !ok {
				continue
			}
			arrow := "-->"
			if l := d.EdgeInfo[t.TaskID][down].Label; l != "" {
				arrow = "-->|" + text(l) + "|"
			}
			fmt.Fprintf(&b, "  %s %s %s\n", ids[t.TaskID], arrow, to)
		}
	}
	used := map[airflow.TIState]bool{}
	for _, s := range states {
		used[s] = true
	}
	for s := range airflow.NumTIStates {
		if st := airflow.TIState(s); used[st] {
			fmt.Fprintf(&b, "  classDef %s fill:%s\n", st, stateFill(st))
		}
	}
	return b.String()
}

// stateFill are the fills of states, light enough for dark text.
func stateFill(s airflow.TIState) string {
	switch s {
	case airflow.TISuccess:
		return "#9be29b"
	case airflow.TIFailed:
		return "#ff9a9a"
	case airflow.TIUpstreamFailed:
		return "#ffc78a"
	case airflow.TIUpForRetry:
		return "#ffe08a"
	case airflow.TISkipped:
		return "#f3b7e3"
	case airflow.TIRunning:
		return "#a8f0e0"
	case airflow.TIQueued, airflow.TIScheduled:
		return "#d9d4c8"
	case airflow.TIDeferred, airflow.TIUpForReschedule:
		return "#c9c3f5"
	}
	return "#eeeeee"
}

// groupFills tell groups apart in SVG.
var groupFills = []string{"#dceffb", "#fdf0d0", "#efe0f7", "#dff3df", "#e3e6fa", "#fbe2dc"}

// SVG draws a DAG as a self-contained picture, its layers from left to right.
func SVG(d *airflow.DAG, states map[airflow.TaskID]airflow.TIState) string {
	const boxHeight, rowGap, charWidth, pad, layerGap = 30, 14, 7, 12, 70
	g := build(d, states)
	g.assignLayers()
	g.reorder()
	size := func(n node) int {
		if n.dummy {
			return 4
		}
		return boxHeight
	}
	width := func(n node) int {
		if n.dummy {
			return 0
		}
		return utf8.RuneCountInString(n.label)*charWidth + 2*pad
	}
	pos := g.place(size, rowGap)
	x := make([]int, len(g.layers))
	depth := make([]int, len(g.layers))
	at, height := 20, 0
	for l, layer := range g.layers {
		x[l] = at
		for _, n := range layer {
			depth[l] = max(depth[l], width(g.nodes[n]))
			height = max(height, pos[n]+size(g.nodes[n]))
		}
		at += depth[l] + layerGap
	}
	const top = 50
	w, h := max(at-layerGap+20, 200), height+top+20
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="Helvetica, Arial, sans-serif" font-size="12">`+"\n", w, h, w, h)
	fmt.Fprintf(&b, "<title>%s</title>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n<text x=\"20\" y=\"30\" font-size=\"16\" font-weight=\"bold\">%s</text>\n", html.EscapeString(string(d.DagID)), html.EscapeString(string(d.DagID)))
	b.WriteString(`<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#666"/></marker></defs>` + "\n")
	middle := func(n int) int { return pos[n] + size(g.nodes[n])/2 + top }
	for _, e := range g.edges {
		f, t := g.nodes[e.from], g.nodes[e.to]
		x1, x2 := x[f.layer]+width(f), x[t.layer]
		if f.dummy {
			x1 = x[f.layer] + depth[f.layer]
		}
		marker := ` marker-end="url(#arrow)"`
		if t.dummy {
			marker = ""
		}
		mid := (x1 + x2) / 2
		if w := x[f.layer] + depth[f.layer] + layerGap/2; w > x1 {
			mid = w
		}
		fmt.Fprintf(&b, `<path d="M%d,%d C%d,%d %d,%d %d,%d" fill="none" stroke="#666"%s/>`+"\n", x1, middle(e.from), mid, middle(e.from), mid, middle(e.to), x2, middle(e.to), marker)
		if e.label != "" {
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-size="10" fill="#444">%s</text>`+"\n", mid, (middle(e.from)+middle(e.to))/2-4, html.EscapeString(e.label))
		}
	}
	for i, n := range g.nodes {
		if n.dummy {
			fmt.Fprintf(&b, `<path d="M%d,%d H%d" fill="none" stroke="#666"/>`+"\n", x[n.layer], middle(i), x[n.layer]+depth[n.layer])
			continue
		}
		fill := "#ffffff"
		for j, name := range g.groups {
			if n.group == name {
				fill = groupFills[j%len(groupFills)]
			}
		}
		title := string(n.id)
		if n.state != nil {
			fill = stateFill(*n.state)
			title += ": " + n.state.String()
		}
		fmt.Fprintf(&b, `<g><title>%s</title><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#333"/><text x="%d" y="%d" text-anchor="middle">%s</text></g>`+"\n",
			html.EscapeString(title), x[n.layer], pos[i]+top, width(n), boxHeight, fill, x[n.layer]+width(n)/2, middle(i)+4, html.EscapeString(n.label))
	}
	b.WriteString("</svg>\n")
	return b.String()
}
