// Package moving keeps the pages of this folder true: their Go is compiled, and run where that is cheap, beside the libraries that
// they compare with. It is a module of its own because the library must not depend on those.
package moving
