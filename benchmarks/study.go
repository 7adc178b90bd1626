package main

import (
	"fmt"
	"strings"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// study is a closer look at one thing. It prints its own lines.
type study struct {
	name string
	// asked: it runs only when -only names it.
	asked bool
	run   func(*park) error
}

var studies = []study{
	{"idle waiters", false, onServer(idleWaiters)},
	{"allocations", false, allocations},
	{"handles", false, onServer(handles)},
	{"failover", true, onServer(failover)},
	{"paths", true, onServer(paths)},
	{"tuning of retries", true, tuneRetries},
	{"tuning of TryNextAfter", true, tuneTryNext},
}

// chosenStudies are those whose names contain a text; without one, those that need not be asked for.
func chosenStudies(text string) (list []study) {
	for _, s := range studies {
		if text == "" && !s.asked || text != "" && strings.Contains(s.name, text) {
			list = append(list, s)
		}
	}
	return list
}

func runStudies(p *park, list []study) error {
	for _, s := range list {
		fmt.Printf("\n## %s\n\n", capital(s.name))
		if err := s.run(p); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// onServer is a study that needs one server only.
func onServer(run func(*lab.Server) error) func(*park) error {
	return func(p *park) error { return run(p.servers[0]) }
}
