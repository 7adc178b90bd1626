// Command faults is the fault lab: it lets faults strike ctxlock, valkeylock, rueidislock, redislock, redsync and etcd's mutex, on servers that it
// starts itself, and says who kept the promise.
//
//	go run .                          all faults, all libraries
//	go run . -only stalled -library ctxlock,valkeylock -seed 7
//	go run . -list                    the names of all faults, libraries and sites of a soak
//	go run . -draw histories/stalled-ctxlock-seed-7.json
//	go run . -soak 10m                mixed faults against ctxlock alone
//
// It needs a server of Redis' kind, whose path is in CTXLOCK_SERVER. What happened in each run is kept in the folder histories, as JSON and as a
// picture. All that is drawn (whom a fault strikes, when, for how long) comes from the seed, and is the same for all libraries; what the network, the
// servers and the scheduler make of it is not.
//
// # How it is put together
//
// A site (site.go) is servers and links to them. A fleet of clients, each a process of its own (client.go, worker.go; crew.go is their other
// end), takes one lock in turn to read and write a register (register.go), which is out of reach of all faults. A blow (blow.go) is one thing that goes
// wrong until it is mended: a link that stalls, a server that is stopped. A fault (fault.go, faults.go) is a row of the table: on which kind of site
// which blows strike whom, and when. What happened is a history (package history); an outcome (outcome.go) is what is read out of it.
// How well those were served who could be is measured as exclusion is, and each row has a bound for it from theory
// (bound.go): beyond that, ctxlock is wrong. What happens within one process, such as a forced claim that meets
// another, does not show in a history: clients judge it themselves (beside.go, mingle.go, bustle.go) and say what was wrong.
//
// To add a fault, add a row to allFaults, and say what theory allows in it (Bound). If a blow does it all, that is one line: onHolder(blow) strikes whoever holds the lock, onAll(blow, time)
// everybody. To add a blow, add it to blow.go: do makes it happen and returns what mends it; blocks says that those whom it strikes cannot be
// served meanwhile. If no guarantee excludes it, add it to mixture, too, from which
// combinations and the soak are drawn. To add a library, write a Contender (contender.go, and contenders.go for its place in the table).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

func main() {
	if runChild() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// settings are what the command line says.
type settings struct {
	only, libraries string
	list            bool
	seed            uint64
	beside          int
	histories, page string
	draw            string
	soak            string
	soakTime        time.Duration
}

func parse(args []string) (s settings, err error) {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	flags.StringVar(&s.only, "only", "", "only faults, or sites of a soak, of these `names`, or whose names contain them (comma-separated); no page is written")
	flags.StringVar(&s.libraries, "library", "", "only these `libraries` (comma-separated); no page is written")
	flags.BoolVar(&s.list, "list", false, "list what there is, and do nothing else")
	flags.Uint64Var(&s.seed, "seed", 0, "what all draws come from; 0: a random one, which is printed")
	flags.IntVar(&s.beside, "beside", besideDefault(), "how many runs go on at once")
	flags.StringVar(&s.histories, "histories", "histories", "`folder` for histories and their pictures; those of the same names are overwritten")
	flags.StringVar(&s.page, "page", "", "`file` to write the page with the table to; pictures go into a folder of that name beside it")
	flags.StringVar(&s.draw, "draw", "", "draw the picture of a history in this `file`, and do nothing else")
	flags.StringVar(&s.soak, "soak", "", "for this `time`, have mixed faults strike ctxlock alone")
	flags.SetOutput(io.Discard)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(os.Stdout)
			flags.Usage()
		}
		return s, err
	}
	for s.seed == 0 {
		s.seed = rand.Uint64() >> 32 // short enough to be typed
	}
	if s.soak != "" {
		if s.soakTime, err = time.ParseDuration(s.soak); err != nil || s.soakTime <= 0 {
			return s, fmt.Errorf("a soak of %q: want a time such as 10m", s.soak)
		}
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("there are flags only, and no %q", flags.Arg(0))
	case s.page != "" && (s.only != "" || s.libraries != "" || s.soak != ""):
		return s, errors.New("a page is of all faults and all libraries")
	case s.soak != "" && s.libraries != "":
		return s, errors.New("a soak is of ctxlock alone")
	case s.beside < 1:
		return s, fmt.Errorf("%d runs at once", s.beside)
	}
	return s, nil
}

func command(ctx context.Context, args []string) error {
	s, err := parse(args)
	switch {
	case err != nil:
		return err
	case s.draw != "":
		return redraw(s.draw)
	case s.list:
		return list(os.Stdout)
	}
	if _, err := lab.Find(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.histories, 0o755); err != nil {
		return err
	}
	fmt.Printf("seed %d\n", s.seed)
	if s.soak != "" {
		return soak(ctx, s.soakTime, s.seed, s.only, s.histories)
	}
	over := make(chan error, 1)
	go func() { over <- table(s) }()
	select {
	case err := <-over:
		return err
	case <-ctx.Done():
		closeSites()
		return errors.New("interrupted")
	}
}

// list prints the names of what there is.
func list(w io.Writer) error {
	fmt.Fprintln(w, "libraries:")
	for _, c := range everybody() {
		fmt.Fprintf(w, "  %s\n", c.Library)
	}
	fmt.Fprintln(w, "faults:")
	for _, f := range allFaults {
		fmt.Fprintf(w, "  %-24s %s\n", f.Name, f.Text)
	}
	fmt.Fprintln(w, "sites of a soak:")
	for _, f := range soakSites {
		fmt.Fprintf(w, "  %s\n", f.Name)
	}
	return nil
}

// table makes the runs that are wanted. It fails if ctxlock did not keep what it promises.
func table(s settings) error {
	began := time.Now()
	p := &plan{seed: s.seed, beside: s.beside, histories: s.histories, progress: os.Stdout}
	var err, err2 error
	p.faults, err = selected(allFaults, s.only)
	p.contenders, err2 = chosen(everybody(), s.libraries)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	outcomes, failed := p.perform()
	if s.page != "" {
		spans, err := measure(p.contenders, os.Stdout)
		failed = errors.Join(failed, err, writePage(s.page, p, outcomes, spans, time.Since(began)))
	}
	fmt.Printf("%s in %s\n", count(len(outcomes), "run"), time.Since(began).Round(time.Second))
	return errors.Join(failed, promises(outcomes))
}

// promises is the error of a table in which ctxlock did something wrong.
func promises(outcomes []*outcome) (err error) {
	for _, o := range outcomes {
		if wrong := slices.Concat(o.Wrong, o.Slow); o.Library == oursLibrary && len(wrong) > 0 {
			err = errors.Join(err, fmt.Errorf("%s: %s", o.Fault, strings.Join(wrong, ", ")))
		}
	}
	return err
}

// selected are the faults of some names. What is not a name may be a part of some.
func selected(all []*fault, names string) (some []*fault, err error) {
	if names == "" {
		return all, nil
	}
	for _, name := range strings.Split(names, ",") {
		name = strings.TrimSpace(name)
		fits := func(f *fault) bool { return f.Name == name }
		if !slices.ContainsFunc(all, fits) {
			fits = func(f *fault) bool { return name != "" && strings.Contains(f.Name, name) }
		}
		if !slices.ContainsFunc(all, fits) {
			return nil, fmt.Errorf("there is no %q: see -list", name)
		}
		for _, f := range all {
			if fits(f) && !slices.Contains(some, f) {
				some = append(some, f)
			}
		}
	}
	return some, nil
}

// chosen are the libraries of some names.
func chosen(all []Contender, names string) (some []Contender, err error) {
	if names == "" {
		return all, nil
	}
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(all, func(c Contender) bool { return c.Library == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no library %q: see -list", name)
		}
		some = append(some, all[i])
	}
	return some, nil
}
