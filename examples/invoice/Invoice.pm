package Invoice;
use strict;
use warnings;

# The sum of lines "price quantity" in cents.
sub total {
    my ($text) = @_;
    my $sum = 0;
    for my $line (split /\n/, $text) {
        my ($price, $quantity) = split ' ', $line;
        $sum += int($price * 100) * $quantity;
    }
    return $sum;
}

1;
