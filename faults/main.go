// Command faults is the fault lab: it lets the same faults strike ctxlock, valkeylock, rueidislock, redislock, redsync and etcd's mutex,
// on servers that it starts itself, and says who kept the promise.
//
//	go run .                          all faults, all libraries: writes the page with the table
//	go run . -only stalled -library ctxlock,valkeylock -seed 7
//	go run . -draw histories/stalled-ctxlock.json
//	go run . -soak 10m                mixed faults against ctxlock alone
//
// It needs a server, whose path is in CTXLOCK_SERVER. What happened in each run is kept in the folder histories, as JSON and as a picture.
package main

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	if runChild() {
		return
	}
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	only, libraries string
	seed            uint64
	beside          int
	histories, page string
	draw            string
	soak            time.Duration
}

func parse(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.StringVar(&s.only, "only", "", "only faults, or sites of a soak, whose name contains one of these texts (comma-separated); no page is written")
	flags.StringVar(&s.libraries, "library", "", "only these libraries (comma-separated); no page is written")
	flags.Uint64Var(&s.seed, "seed", 0, "what all draws come from; 0: a random one, which is printed")
	flags.IntVar(&s.beside, "beside", besideDefault(), "how many runs go on at once")
	flags.StringVar(&s.histories, "histories", "histories", "folder for histories and their pictures")
	flags.StringVar(&s.page, "page", "", "file to write the page with the table to; pictures go beside it. Default: none")
	flags.StringVar(&s.draw, "draw", "", "draw the picture of a history that was kept, and do nothing else")
	flags.DurationVar(&s.soak, "soak", 0, "for so long, have mixed faults strike ctxlock alone")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("there are flags only, and no %q", flags.Arg(0))
	}
	if s.page != "" && (s.only != "" || s.libraries != "") {
		return s, errors.New("a page is of all faults and all libraries")
	}
	for s.seed == 0 {
		s.seed = rand.Uint64() >> 32 // short enough to be typed
	}
	return s, nil
}

func command(args []string) error {
	s, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return err
	case s.draw != "":
		return redraw(s.draw)
	}
	fmt.Printf("seed %d\n", s.seed)
	if s.soak > 0 {
		return soak(s.soak, s.seed, s.only, s.histories)
	}
	return table(s)
}

// table makes the runs that are wanted. It fails if ctxlock did not keep what it promises.
func table(s settings) error {
	began := time.Now()
	p := &plan{
		faults: selected(allFaults, s.only), contenders: chosen(everybody(), s.libraries),
		seed: s.seed, beside: s.beside, histories: s.histories, progress: os.Stdout,
	}
	if len(p.faults) == 0 || len(p.contenders) == 0 {
		return errors.New("there is no such fault, or no such library")
	}
	if err := emptyFolder(s.histories); err != nil {
		return err
	}
	outcomes, failed := p.perform()
	if s.page != "" && failed == nil {
		var spans []*spans
		if spans, failed = measure(p.contenders, os.Stdout); failed == nil {
			failed = writePage(s.page, p, outcomes, spans, time.Since(began))
		}
	}
	fmt.Printf("%s in %s\n", count(len(outcomes), "run"), time.Since(began).Round(time.Second))
	return errors.Join(failed, promises(outcomes))
}

// promises is the error of a table in which ctxlock did something wrong.
func promises(outcomes []*outcome) (err error) {
	for _, o := range outcomes {
		if o.Library == oursLibrary && len(o.Wrong) > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s", o.Fault, strings.Join(o.Wrong, ", ")))
		}
	}
	return err
}

// selected are the faults whose names contain one of some texts.
func selected(all []*fault, texts string) []*fault {
	if texts == "" {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(f *fault) bool {
		return !slices.ContainsFunc(strings.Split(texts, ","), func(text string) bool { return strings.Contains(f.Name, text) })
	})
}

// chosen are the libraries of some names.
func chosen(all []Contender, names string) []Contender {
	if names == "" {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(c Contender) bool { return !slices.Contains(strings.Split(names, ","), c.Library) })
}
