use strict;
use warnings;
use lib '.';
use Test::More tests => 2;
use Invoice;

is(Invoice::total("1.50 2\n"), 300, 'simple prices');
is(Invoice::total("19.99 1\n0.29 100\n"), 4899, 'prices that floating point can not hold');
