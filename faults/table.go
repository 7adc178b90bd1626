package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// plan is which faults strike which libraries, and how.
type plan struct {
	faults     []*fault
	contenders []Contender
	seed       uint64
	beside     int    // how many runs go on at once
	histories  string // folder for what happened; empty: none is kept
	progress   io.Writer
}

// cell is one run of the plan.
type cell struct {
	fault *fault
	who   Contender
}

// cells are all runs: first those that may go on beside others.
func (p *plan) cells() (beside, alone []cell) {
	for _, f := range p.faults {
		for _, who := range p.contenders {
			switch {
			case !f.befalls(who):
			case f.Quiet:
				alone = append(alone, cell{f, who})
			default:
				beside = append(beside, cell{f, who})
			}
		}
	}
	return beside, alone
}

// perform makes all runs. A run that could not be made is an error; what was made is returned all the same.
func (p *plan) perform() (outcomes []*outcome, err error) {
	beside, alone := p.cells()
	var mu sync.Mutex
	var errs []string
	one := func(c cell) {
		o, err := p.run(c)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, fmt.Sprintf("%s, %s: %v", c.fault.Name, c.who.Library, err))
			fmt.Fprintln(p.progress, errs[len(errs)-1])
			return
		}
		outcomes = append(outcomes, o)
		fmt.Fprintln(p.progress, o)
	}
	places := make(chan struct{}, max(1, p.beside))
	var all sync.WaitGroup
	for _, c := range beside {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			one(c)
		})
	}
	all.Wait()
	for _, c := range alone {
		one(c)
	}
	slices.SortFunc(outcomes, p.order)
	if len(errs) > 0 {
		err = fmt.Errorf("%s could not be made:\n%s", count(len(errs), "run"), strings.Join(errs, "\n"))
	}
	return outcomes, err
}

// run makes one run and keeps its history. If servers or clients do not start, which happens on machines that are busy, they are started once more.
func (p *plan) run(c cell) (*outcome, error) {
	r, err := open(c.fault, c.who, p.seed)
	if err != nil {
		fmt.Fprintf(p.progress, "%s, %s: %v; once more\n", c.fault.Name, c.who.Library, err)
		r, err = open(c.fault, c.who, p.seed)
	}
	if err != nil {
		return nil, err
	}
	o, err := r.perform()
	if o == nil || p.histories == "" {
		return o, err
	}
	return o, errors.Join(err, o.keep(p.histories))
}

// keep writes the history and its picture.
func (o *outcome) keep(folder string) error {
	base := filepath.Join(folder, fmt.Sprintf("%s-%s-seed-%d", fileName(o.history.Fault), o.history.Library, o.history.Seed))
	if err := o.history.Save(base + ".json"); err != nil {
		return err
	}
	return draw(o.history, base+".svg")
}

// fileName makes a file's name of a fault's.
func fileName(fault string) string {
	return strings.ToLower(strings.NewReplacer(" ", "-", ",", "").Replace(fault))
}

// order is that of the table.
func (p *plan) order(a, b *outcome) int {
	row := func(o *outcome) int {
		return slices.IndexFunc(p.faults, func(f *fault) bool { return f.Name == o.Fault })
	}
	column := func(o *outcome) int {
		return slices.IndexFunc(p.contenders, func(c Contender) bool { return c.Library == o.Library })
	}
	if r := row(a) - row(b); r != 0 {
		return r
	}
	return column(a) - column(b)
}

// besideDefault is how many runs a machine bears at once: each waits most of its time.
func besideDefault() int { return 4 * runtime.NumCPU() }
