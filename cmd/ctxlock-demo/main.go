// Command ctxlock-demo shows what ctxlock does: three processes want one lock on a real server, and get it one after the other,
// whether a holder releases the lock, is killed, loses its link or has the lock taken from it.
//
// It starts a server of its own, tells what happens as it happens, and ends with a timeline and a verdict. Its exit status is 0
// if all is well.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

func main() {
	if role := os.Getenv(roleEnv); role != "" {
		if err := play(role, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "ctxlock-demo:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the tidying up
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// timeLimit bounds the whole of it, which takes some eleven seconds.
const timeLimit = 30 * time.Second

// run is the demo. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("ctxlock-demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	address := flags.String("server", "", "use the server that runs at this `address`, host:port or redis://user:password@host:port,\n"+
		"in place of starting one; keys get a prefix of their own, and nothing else is touched")
	quiet := flags.Bool("q", false, "print no more than the timeline, the table and the verdict")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case flags.NArg() > 0:
		fmt.Fprintln(stderr, "ctxlock-demo: takes no arguments, only flags; -h lists them")
		return 2
	}
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	ok, err := demo(ctx, *address, newScreen(stdout), *quiet)
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(stderr, "ctxlock-demo: interrupted; everything was ended")
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		fmt.Fprintln(stderr, "ctxlock-demo: gave up after", timeLimit)
	case errors.Is(err, lab.ErrNoServer):
		fmt.Fprintln(stderr, howToGetServer)
	case err != nil:
		fmt.Fprintln(stderr, "ctxlock-demo:", err)
	}
	if err != nil || !ok {
		return 1
	}
	return 0
}

// demo plays the scenes and reports on them. ok is the verdict.
func demo(ctx context.Context, address string, out screen, quiet bool) (ok bool, err error) {
	before := readClocks()
	acc := newAccount(out, quiet)
	srv, err := openServer(address)
	if err != nil {
		return false, err
	}
	acc.say("%s", out.paint(bold, "Three processes want one lock, which is held as a context."))
	acc.say("It is kept on %s.\nThe key lives %v unless its holder extends it.", srv.title, validity)
	acc.say("")

	prefix := "ctxlock-demo-" + rand.Text()
	s, err := newStage(ctx, srv, acc, prefix)
	defer s.close()
	if err != nil {
		return false, err
	}
	played := s.play(ctx)
	end := now()
	s.show(end)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	f := findings{history: newHistory(s.history), drift: readClocks().driftSince(before)}
	if f.balance, err = readBalance(s.role.File); err != nil {
		return false, err
	}
	if f.left, err = srv.left(ctx, prefix); err != nil {
		return false, fmt.Errorf("looking for what is left: %w", err)
	}
	acc.say("")
	return printReport(out, f, acc.start, end), played // what was seen is worth a look, the more so if something went wrong
}
