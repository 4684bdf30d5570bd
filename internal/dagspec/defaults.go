package dagspec

import (
	"path"
	"sort"
	"strings"
)

// defaultsDirs lists the folders whose defaults.yml count, nearest first.
func (l *loader) defaultsDirs(p string) []string {
	root := l.opt.DefaultsRoot
	if root == "" {
		root = l.opt.BundleRoot
	}
	dir := path.Dir(p)
	if root == "" {
		return []string{dir}
	}
	root = path.Clean(root)
	if dir != root && !strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") {
		return []string{dir, root}
	}
	var out []string
	for {
		out = append(out, dir)
		if dir == root || dir == "/" {
			return out
		}
		dir = path.Dir(dir)
	}
}

// defaults reads the chain of defaults files and merges it with the file's
// default block. It returns the block to merge into every DAG and the
// DAG-level arguments of the defaults files, which beat the block.
func (l *loader) defaults(p string, cfg *dict) (block, levels *dict, ok bool) {
	var configs []*dict // farthest first
	dirs := l.defaultsDirs(p)
	for i := len(dirs) - 1; i >= 0; i-- {
		for _, name := range []string{"defaults.yml", "defaults.yaml"} {
			f := path.Join(dirs[i], name)
			if f == path.Clean(p) {
				continue
			}
			if _, err := l.src.ReadFile(f); err != nil {
				continue
			}
			c, failed, good := l.configFile(f, "defaults")
			if !good || len(failed) > 0 {
				return nil, nil, false
			}
			configs = append(configs, c)
			break
		}
	}
	args, ok := l.mergeDefaultArgs(configs)
	if !ok {
		return nil, nil, false
	}
	levels = &dict{}
	for _, c := range configs {
		for _, e := range c.entries {
			switch e.key {
			case "default_args":
			case "tags":
				if !l.mergeTags(levels, e) {
					return nil, nil, false
				}
			default:
				levels.set(e)
			}
		}
	}
	block = &dict{}
	if e := cfg.entry("default"); e != nil {
		d, isDict := e.val.(*dict)
		if !isDict {
			l.report(pyErr("AttributeError", "'%s' object has no attribute 'get'", typeName(e.val)).hint("default expects a mapping"), "default", e.kpos)
			return nil, nil, false
		}
		block = d
	}
	merged, ok := l.mergeDefaultArgs([]*dict{{entries: []entry{{key: "default_args", val: args}}}, block})
	if !ok {
		return nil, nil, false
	}
	e := entry{key: "default_args", val: merged}
	if old := block.entry("default_args"); old != nil {
		e.kpos, e.vpos = old.kpos, old.vpos
	}
	block.set(e)
	return block, levels, true
}

func (l *loader) mergeDefaultArgs(configs []*dict) (*dict, bool) {
	out := &dict{}
	for _, c := range configs {
		v, present := c.lookup("default_args")
		if !present {
			continue
		}
		d, ok := v.(*dict)
		if !ok {
			l.report(pyErr("AttributeError", "'%s' object has no attribute 'items'", typeName(v)).hint("default_args expects a mapping"),
				"default.default_args", c.at("default_args"))
			return nil, false
		}
		for _, e := range d.entries {
			out.set(e)
		}
	}
	return out, true
}

// mergeTags unites and sorts tags across defaults files.
func (l *loader) mergeTags(levels *dict, e entry) bool {
	v, ok := e.val.(*list)
	if !ok {
		l.report(pyErr("TypeError", "can only concatenate list (not \"%s\") to list", typeName(e.val)).hint("tags expects a list"), "tags", e.vpos)
		return false
	}
	var names []string
	seen := map[string]bool{}
	add := func(x value) bool {
		s, ok := x.(string)
		if !ok {
			l.report(pyErr("TypeError", "tags must be text, got %s", typeName(x)), "tags", e.vpos)
			return false
		}
		if !seen[s] {
			seen[s] = true
			names = append(names, s)
		}
		return true
	}
	if old, ok := levels.get("tags").(*list); ok {
		for _, it := range old.items {
			add(it.val)
		}
	}
	for _, it := range v.items {
		if !add(it.val) {
			return false
		}
	}
	sort.Strings(names)
	out := &list{}
	for _, n := range names {
		out.items = append(out.items, item{n, e.vpos})
	}
	e.val = out
	levels.set(e)
	return true
}

// mergeDeep fills cfg with what def has and cfg lacks, mapping by mapping.
func mergeDeep(cfg, def *dict) {
	for _, e := range def.entries {
		i := cfg.find(e.key)
		if i < 0 {
			cfg.set(e)
			continue
		}
		a, ok1 := cfg.entries[i].val.(*dict)
		b, ok2 := e.val.(*dict)
		if ok1 && ok2 {
			mergeDeep(a, b)
		}
	}
}
